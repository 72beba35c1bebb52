"""Run a file reader in a child process that may die without taking us with it.

The child is a fresh interpreter with limits on address space, CPU time and
wall-clock time. It is started as a plain subprocess: unlike
`multiprocessing`'s spawn it never imports the caller's ``__main__`` (a viewer,
a user's script), and it may be started from a daemonic worker. Job and answer
are JSON, not pickle; arrays follow as raw bytes through the pipe, straight
into the array that the caller gets. A pipe needs no name that could be left
behind, and no ``/dev/shm``, which holds 64 MB in a default container.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from napari_alnct.core import errors
from napari_alnct.core.errors import AlnctError, ReadError

PIPE_BYTES = 1 << 20  # the largest pipe that Linux gives to everyone
HEADER_LIMIT_BYTES = 1 << 24
CPU_THREADS = 2  # threads that a reader may keep busy at once
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
COMMAND = "from napari_alnct.io.guarded import serve; serve()"


def run_guarded(
    function: Callable[..., Any],
    args: Sequence[Any],
    *,
    timeout_s: float,
    memory_bytes: int,
    file: str = "",
) -> Any:
    """Give the result of a function that is called in a limited child process.

    Parameters
    ----------
    function : callable
        A function at the top level of an importable module.
    args : sequence
        Its arguments: JSON values (str, numbers, bool, None, lists, dicts).
    timeout_s : float
        Wall-clock limit, s. The CPU limit (POSIX) is twice that.
    memory_bytes : int
        Limit of the child's address space (Linux), and of the arrays that it may return.
    file : str, optional
        Base name for error messages; by default that of the first argument.

    Returns
    -------
    object
        JSON values, in which numpy arrays of numbers may stand anywhere; tuples come back as lists.

    Raises
    ------
    ReadError
        As raised by the function; ``E_READER_DIED`` when the child crashed, was killed, ran out of
        memory or time, or met an error that the function did not foresee.
    AlnctError
        As raised by the function.
    ValueError
        If the function cannot be imported by name.
    """
    cpu_s = math.ceil(timeout_s) * CPU_THREADS
    job = {"function": _import_name(function), "args": list(args), "memory_bytes": memory_bytes, "cpu_s": cpu_s}
    file = file or (Path(args[0]).name if args and isinstance(args[0], str) else "scan")
    expired = threading.Event()
    process = _start()

    def stop() -> None:
        """End the child that took too long."""
        expired.set()
        process.kill()

    timer = threading.Timer(timeout_s, stop)
    timer.daemon = True
    timer.start()
    try:
        answer = _converse(process, job, memory_bytes)
    finally:
        timer.cancel()
        status = _finish(process)
    if answer is None:
        reason = f"no answer within {timeout_s:g} s" if expired.is_set() else _death(status)
        raise _died(file, reason)
    return _unpack(answer, file)


def serve() -> None:
    """Run the one job that stands on standard input; the child's side of `run_guarded`."""
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with the answer
    job = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _limit(job["memory_bytes"], job["cpu_s"])
    answer, arrays = _answer(job)
    channel.write(struct.pack("<Q", len(answer)) + answer)
    for array in arrays:
        channel.write(_bytes_of(array))
    channel.close()
    os._exit(0)


def _import_name(function: Callable[..., Any]) -> str:
    name = f"{function.__module__}:{function.__qualname__}"
    if "<" in name or name.startswith("__main__"):
        raise ValueError(f"{name} cannot be imported by a child process; use a function at the top level of a module")
    return name


def _start() -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    for variable in THREAD_VARIABLES:
        environment[variable] = "1"  # every thread's stack counts against the address space
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("ALNCT_TRACEBACK") else subprocess.DEVNULL,
        env=environment,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    _widen(process)
    return process


def _widen(process: subprocess.Popen[bytes]) -> None:
    """Enlarge the answer's pipe where the system can: six times faster for a whole scan."""
    try:
        import fcntl

        assert process.stdout is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except (ImportError, AttributeError, OSError):
        pass


def _converse(process: subprocess.Popen[bytes], job: dict[str, Any], memory_bytes: int) -> dict[str, Any] | None:
    """Send the job and read the answer; None when the child ended before it was complete."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()  # stays open: its end tells the child that we are gone
        return _receive(process.stdout, memory_bytes)
    except (EOFError, OSError):  # a broken pipe; Windows calls it an invalid argument
        return None


def _receive(stream: IO[bytes], memory_bytes: int) -> dict[str, Any]:
    prefix = bytearray(8)
    _fill(stream, memoryview(prefix))
    (length,) = struct.unpack("<Q", prefix)
    if length > HEADER_LIMIT_BYTES:
        raise EOFError("the answer makes no sense")
    header = bytearray(length)
    _fill(stream, memoryview(header))
    arrays: list[np.ndarray[Any, Any]] = []

    def place(value: dict[str, Any]) -> Any:
        if "__array__" not in value:
            return value
        dtype, shape = np.dtype(value["__array__"]), tuple(int(n) for n in value["shape"])
        wanted = math.prod(shape) * dtype.itemsize + sum(array.nbytes for array in arrays)
        if dtype.kind not in "biuf" or min(shape, default=0) < 0 or wanted > memory_bytes:
            raise EOFError("the answer makes no sense")
        arrays.append(np.empty(shape, dtype))
        return arrays[-1]

    answer: dict[str, Any] = json.loads(header, object_hook=place)
    for array in arrays:
        _fill(stream, _bytes_of(array))
    return answer


def _fill(stream: IO[bytes], view: memoryview) -> None:
    done = 0
    while done < len(view):
        count = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError("the child ended early")
        done += count


def _bytes_of(array: np.ndarray[Any, Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _finish(process: subprocess.Popen[bytes]) -> int:
    """End the child and give its exit status; its own one when it died by itself."""
    for stream in (process.stdout, process.stdin):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    try:
        return process.wait(timeout=1.0)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _death(status: int) -> str:
    if status < 0:
        import signal

        known = {member.value: member.name for member in signal.Signals}
        return f"the end of the reading process by {known.get(-status, f'signal {-status}')}"
    return f"the end of the reading process with status {status}"


def _died(file: str, reason: str) -> ReadError:
    hint = "the file is probably damaged, export or copy it again (ALNCT_TRACEBACK=1 shows details)"
    return ReadError("E_READER_DIED", file, "a file that can be read", reason, hint=hint)


def _unpack(answer: dict[str, Any], file: str) -> Any:
    if "died" in answer:
        raise _died(file, answer["died"])
    if "read_error" in answer:
        code, name, expected, found, key, hint = answer["read_error"]
        raise ReadError(code, name, expected, found, key=key, hint=hint)
    if "error" in answer:
        kind = getattr(errors, answer["error"], AlnctError)
        raise kind(answer["message"])
    return answer["result"]


def _answer(job: dict[str, Any]) -> tuple[bytes, list[np.ndarray[Any, Any]]]:
    """Run the job; every outcome becomes an answer."""
    arrays: list[np.ndarray[Any, Any]] = []

    def set_aside(value: Any) -> dict[str, Any]:
        if not isinstance(value, np.ndarray):
            raise TypeError(f"a guarded function may not return {type(value).__name__}")
        arrays.append(np.ascontiguousarray(value))
        return {"__array__": value.dtype.str, "shape": list(value.shape)}

    try:
        module, _, function = job["function"].partition(":")
        result = getattr(importlib.import_module(module), function)(*job["args"])
        return json.dumps({"result": result}, default=set_aside).encode(), arrays
    except ReadError as error:
        fields = [error.code, error.file, error.expected, error.found, error.key, error.hint]
        return json.dumps({"read_error": fields}).encode(), []
    except AlnctError as error:
        return json.dumps({"error": type(error).__name__, "message": str(error)}).encode(), []
    except MemoryError:
        return json.dumps(
            {"died": f"a need for more than {job['memory_bytes'] / 2**30:.1f} GiB of memory"}
        ).encode(), []
    except Exception as error:
        traceback.print_exc()
        return json.dumps({"died": f"a content that raises {type(error).__name__}"}).encode(), []


def _leave_with_parent() -> None:
    """End this process when the other end of standard input closes."""
    os.read(0, 1)
    os._exit(1)


def _limit(memory_bytes: int, cpu_s: int) -> None:
    """Set the limits that this system knows; wall-clock time is the parent's task."""
    try:
        import resource
    except ImportError:  # Windows
        return
    wanted = (("RLIMIT_AS", memory_bytes), ("RLIMIT_CPU", cpu_s), ("RLIMIT_CORE", 0))
    for limit_name, value in wanted:
        try:
            limit = getattr(resource, limit_name)
            _, hard = resource.getrlimit(limit)
            ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(limit, (ceiling, ceiling))
        except (AttributeError, ValueError, OSError):  # macOS refuses some
            continue
