"""How much memory this machine has, from the standard library alone."""

from __future__ import annotations

import os
import sys

UNKNOWN_MEMORY_BYTES = 16 << 30  # a common size, when the system does not say


def physical_memory_bytes() -> int:
    """Give the size of the physical memory.

    Returns
    -------
    int
        Bytes; 16 GiB when the system does not tell.

    Examples
    --------
    >>> physical_memory_bytes() > 1 << 28
    True
    """
    if sys.platform == "win32":
        return _windows_memory_bytes()
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return UNKNOWN_MEMORY_BYTES


def _windows_memory_bytes() -> int:
    """Ask Windows (GlobalMemoryStatusEx); the second 64-bit number of the answer is the total."""
    if sys.platform != "win32":
        raise AssertionError("asked on another system")
    import ctypes

    status = (ctypes.c_uint64 * 8)()  # MEMORYSTATUSEX: two 32-bit numbers, then seven 64-bit ones
    ctypes.cast(status, ctypes.POINTER(ctypes.c_uint32))[0] = ctypes.sizeof(status)
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return UNKNOWN_MEMORY_BYTES
    return int(status[1])
