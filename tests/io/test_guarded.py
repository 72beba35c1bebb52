"""Reading in a child process: answers come back whole, deaths come back as errors."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_alnct.core.errors import GeometryError, ReadError
from napari_alnct.io import guarded
from napari_alnct.io.guarded import run_guarded

GIB = 1 << 30
POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")
LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS or /proc")

JOBS = textwrap.dedent(
    """
    import ctypes, os, signal, sys, time
    import numpy as np
    from napari_alnct.core.errors import GeometryError, ReadError

    def echo(*values): return list(values)
    def arrays(n):
        cube = np.arange(n**3, dtype=np.int16).reshape(n, n, n)
        more = [np.zeros((0, 3)), np.array([1.5, -2.5]), np.array([True])]
        return {"cube": cube.T, "more": more, "big": cube.astype(">i2")}
    def large(n): return np.full(n, 7, np.int16)
    def refuse(path): raise ReadError("E_SPACING", path, "a", "b", key="k", hint="h")
    def oblique(path): raise GeometryError("it is oblique")
    def stumble(path): raise KeyError("ZZCANARYZZ")
    def foreign(path): return object()
    def shout(path):
        print("noise"); sys.stdout.flush(); os.write(1, b"more noise"); return path
    def kill(path): os.kill(os.getpid(), signal.SIGKILL)
    def crash(path): ctypes.string_at(0)
    def leave(path): os._exit(7)
    def hang(path): time.sleep(600)
    def spin(path):
        while True: pass
    def devour(path): return int(np.ones(8 << 30, np.uint8)[-1])
    def tell_and_hang(path):
        with open(path, "w") as file: file.write(str(os.getpid()))
        time.sleep(600)
    """
)


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Give a module of functions for the child, importable by name on both sides."""
    (tmp_path / "alnct_guarded_jobs.py").write_text(JOBS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "alnct_guarded_jobs", raising=False)
    import alnct_guarded_jobs  # type: ignore[import-not-found]

    yield alnct_guarded_jobs
    sys.modules.pop("alnct_guarded_jobs", None)


def run(function: object, *args: object, timeout_s: float = 60.0, memory_bytes: int = 4 * GIB) -> object:
    return run_guarded(function, args, timeout_s=timeout_s, memory_bytes=memory_bytes)  # type: ignore[arg-type]


def test_plain_values_come_back(jobs: object) -> None:
    """JSON values, non-ASCII text and exact floats make the round trip."""
    assert run(jobs.echo, "ä/é.dcm", 0.1, None, True, [1, {"a": 2}]) == ["ä/é.dcm", 0.1, None, True, [1, {"a": 2}]]


def test_arrays_come_back_exactly(jobs: object) -> None:
    """Arrays keep values, shape and type wherever they stand: transposed, empty, boolean, big-endian."""
    found = run(jobs.arrays, 4)
    cube = np.arange(64, dtype=np.int16).reshape(4, 4, 4)
    np.testing.assert_array_equal(found["cube"], cube.T)
    assert found["cube"].dtype == np.int16
    assert [array.shape for array in found["more"]] == [(0, 3), (2,), (1,)]
    np.testing.assert_array_equal(found["more"][1], [1.5, -2.5])
    np.testing.assert_array_equal(found["big"], cube)


def test_answer_larger_than_the_pipe(jobs: object) -> None:
    """An answer of many pipe lengths arrives whole and belongs to the caller."""
    found = run(jobs.large, 5_000_000)
    assert found.size == 5_000_000
    assert (found == 7).all()
    assert found.flags.writeable


def test_read_error_crosses_unchanged(jobs: object) -> None:
    """A ReadError of the child is raised here with all its fields."""
    with pytest.raises(ReadError) as caught:
        run(jobs.refuse, "a.nii")
    error = caught.value
    fields = (error.code, error.file, error.expected, error.found, error.key, error.hint)
    assert fields == ("E_SPACING", "a.nii", "a", "b", "k", "h")


def test_other_own_errors_keep_their_class(jobs: object) -> None:
    """An AlnctError of the child is raised here with class and text."""
    with pytest.raises(GeometryError, match=r"^it is oblique$"):
        run(jobs.oblique, "a.nii")


def test_unforeseen_error_is_named_without_its_text(jobs: object) -> None:
    """Any other exception becomes E_READER_DIED with its type; its text may hold patient data and stays away."""
    with pytest.raises(ReadError, match="KeyError") as caught:
        run(jobs.stumble, "/secret/place/a.nii")
    assert caught.value.code == "E_READER_DIED"
    assert caught.value.file == "a.nii"
    assert "ZZCANARYZZ" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_answer_that_is_no_value_is_refused(jobs: object) -> None:
    """Objects do not cross the border."""
    with pytest.raises(ReadError, match="TypeError"):
        run(jobs.foreign, "a")


def test_prints_do_not_mix_with_the_answer(jobs: object) -> None:
    """Text that a library writes to standard output does not damage the answer."""
    assert run(jobs.shout, "a") == "a"


@POSIX_ONLY
@pytest.mark.parametrize(("name", "sign"), [("kill", "SIGKILL"), ("crash", "SIGSEGV"), ("leave", "status 7")])
def test_death_of_the_child_is_an_error(jobs: object, name: str, sign: str) -> None:
    """A killed, crashed or vanished child gives E_READER_DIED with the reason; the parent lives on."""
    with pytest.raises(ReadError, match=sign) as caught:
        run(getattr(jobs, name), "scan.nii")
    assert caught.value.code == "E_READER_DIED"
    assert caught.value.file == "scan.nii"


@pytest.mark.parametrize("name", ["hang", "spin"])
def test_hanging_child_is_stopped(jobs: object, name: str) -> None:
    """A child that sleeps or spins for ever is killed after the wall-clock limit."""
    start = time.monotonic()
    with pytest.raises(ReadError, match=r"no answer within 1\.5 s") as caught:
        run(getattr(jobs, name), "a.nii", timeout_s=1.5)
    assert caught.value.code == "E_READER_DIED"
    assert time.monotonic() - start < 15


@LINUX_ONLY
def test_memory_limit_holds(jobs: object) -> None:
    """A child that asks for more than its address space gives E_READER_DIED, not a full machine."""
    with pytest.raises(ReadError, match=r"more than 2\.0 GiB") as caught:
        run(jobs.devour, "a.nii", memory_bytes=2 * GIB)
    assert caught.value.code == "E_READER_DIED"


def test_larger_answer_than_allowed_is_refused(jobs: object) -> None:
    """The parent takes no array above the limit, whatever the child says."""
    with pytest.raises(ReadError, match="E_READER_DIED"):
        run_guarded(jobs.large, (40_000_000,), timeout_s=60, memory_bytes=60_000_000)


@LINUX_ONLY
def test_nothing_is_left_behind(jobs: object) -> None:
    """After answers, refusals and deaths: no open file, thread or child process more than before."""
    run(jobs.echo, 1)
    before = _belongings()
    run(jobs.arrays, 3)
    for name in ("refuse", "kill", "crash"):
        with pytest.raises(ReadError):
            run(getattr(jobs, name), "a")
    assert _wait_for(lambda: _belongings() == before), f"{before} became {_belongings()}"


def test_a_child_that_dies_before_the_job_is_an_error_on_windows_too() -> None:
    """Windows reports the broken pipe as an invalid argument, errno 22: still E_READER_DIED."""

    class Pipe:
        def write(self, _: bytes) -> int:
            raise OSError(errno.EINVAL, "Invalid argument")

    process = SimpleNamespace(stdin=Pipe(), stdout=io.BytesIO())
    assert guarded._converse(process, {}, 1) is None  # type: ignore[arg-type]


@POSIX_ONLY
def test_a_batch_goes_on_after_a_death(jobs: object) -> None:
    """After a killed child the next scan is read as if nothing had happened."""
    outcomes = []
    for name in ("echo", "kill", "echo"):
        try:
            outcomes.append(run(getattr(jobs, name), "a"))
        except ReadError as error:
            outcomes.append(error.code)
    assert outcomes == [["a"], "E_READER_DIED", ["a"]]


def test_threads_do_not_disturb_each_other(jobs: object) -> None:
    """Two reads from two threads at once both succeed."""
    found: dict[int, object] = {}
    threads = [threading.Thread(target=lambda k=k: found.update({k: run(jobs.echo, k)})) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: [0], 1: [1]}


def test_function_without_a_name_is_refused() -> None:
    """A lambda cannot be found by the child; that is told before anything starts."""
    with pytest.raises(ValueError, match="top level"):
        run_guarded(lambda: 1, (), timeout_s=1, memory_bytes=GIB)


def test_main_module_is_not_run_again(tmp_path: Path) -> None:
    """A script without a __main__ guard reads a scan and runs once: the child does not import it."""
    script = tmp_path / "script.py"
    script.write_text(
        "print('start')\n"
        "from napari_alnct.io.guarded import run_guarded\n"
        "import os.path\n"
        "print(run_guarded(os.path.basename, ['a/b'], timeout_s=60, memory_bytes=4 << 30))\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["start", "b"]
    assert done.stderr == ""


@LINUX_ONLY
def test_child_ends_with_its_parent(jobs: object, tmp_path: Path) -> None:
    """When the parent is killed, a hanging child does not stay behind."""
    pid_file = tmp_path / "pid"
    code = (
        "from napari_alnct.io.guarded import run_guarded; import alnct_guarded_jobs as jobs\n"
        f"run_guarded(jobs.tell_and_hang, [{str(pid_file)!r}], timeout_s=600, memory_bytes=4 << 30)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as parent:
        try:
            pid = _wait_for(lambda: int(pid_file.read_text() or 0) if pid_file.exists() else 0)
        finally:
            parent.send_signal(signal.SIGKILL)
    assert _wait_for(lambda: not _is_running(pid)), "the child still runs"


def _belongings() -> tuple[int, int, int]:
    """Count open files, threads and child processes."""
    own = str(os.getpid())
    parents = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents.append(stat.read_text().rsplit(")", 1)[1].split()[1])
    return len(os.listdir("/proc/self/fd")), threading.active_count(), parents.count(own)


def _is_running(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_for(condition: object, seconds: float = 20.0) -> object:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    return condition()
