"""Run a command with a display: `python scripts/with_display.py COMMAND...`.

Uses the display that is there; on Linux without one it starts Xvfb for the
time of the command, and runs the command without a display when Xvfb is
missing. Exits with the command's status.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def has_display() -> bool:
    """Tell whether windows can be opened."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@contextmanager
def virtual_display() -> Iterator[dict[str, str]]:
    """Give the environment for a command that opens windows on an Xvfb of its own."""
    read_end, write_end = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write_end), "-screen", "0", "1600x1000x24", "-nolisten", "tcp"],
        pass_fds=[write_end],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    try:
        with os.fdopen(read_end) as pipe:
            number = pipe.readline().strip()  # Xvfb writes its number when it is ready; nothing when it fails
        if not number:
            sys.exit("with_display: Xvfb did not start")
        yield {**os.environ, "DISPLAY": f":{number}", "QT_QPA_PLATFORM": "xcb", "LIBGL_ALWAYS_SOFTWARE": "1"}
    finally:
        server.terminate()
        server.wait()


def main() -> int:
    """Run the command of the command line."""
    command = sys.argv[1:]
    if not command:
        sys.exit("usage: with_display.py COMMAND [ARGUMENT...]")
    if has_display():
        return subprocess.run(command).returncode
    if shutil.which("Xvfb") is None:
        print("with_display: no display and no Xvfb (Debian: apt-get install xvfb)", file=sys.stderr)
        return subprocess.run(command).returncode
    with virtual_display() as environment:
        return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
