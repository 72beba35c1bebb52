"""Fixtures and rules that all tests share."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests run side by side, and waiting threads spin

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a run in the background of a script; programs that tests start
    signal.signal(signal.SIGINT, signal.default_int_handler)  # would ignore Ctrl-C too

ROOT = Path(__file__).resolve().parents[1]


def data_pack_folder() -> Path | None:
    """Give the development data pack, or None: env ALNCT_DATA, else ../shared/data beside the project."""
    folder = Path(os.environ.get("ALNCT_DATA", ROOT.parent / "shared" / "data"))
    return folder if (folder / "luna16").is_dir() else None


@pytest.fixture(scope="session")
def data_pack() -> Path:
    """Give the development data pack; skip the test when it is not there."""
    folder = data_pack_folder()
    if folder is None:
        pytest.skip("no data pack: set ALNCT_DATA")
    return folder


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that leaves this machine."""
    import socket

    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family != getattr(socket, "AF_UNIX", None) and address[0] not in ("127.0.0.1", "::1", "localhost"):  # type: ignore[index]
            raise AssertionError(f"a test tried to connect to {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave modules and collected tests out of all later searches for garbage, as they live to the end anyway.

    They are most of all objects. napari searches whenever a layer goes, and each search would look at all of them.
    What a test makes is searched as ever, so that what it leaks is still seen.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest file, so that it runs beside the others."""
    items.sort(key=lambda item: item.path.name != "test_sequence.py")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say last how many tests were skipped for lack of the data pack."""
    skipped = terminalreporter.stats.get("skipped", [])
    n = sum("no data pack" in str(report.longrepr) for report in skipped)
    terminalreporter.write_line(f"skipped for lack of data: {n}")
