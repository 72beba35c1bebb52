"""The log of a training run: rows of a CSV file, and the same numbers for TensorBoard.

Both are written at once, in the calling thread: a killed run keeps every row, and a full
disk is an error here and now. (torch's ``SummaryWriter`` writes in a thread of its own,
where a full disk passes unseen for a while.) Rows beyond the resume point are cut when a
run goes on, so no step is there twice.
"""

from __future__ import annotations

import csv
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_alnct.io.atomic_file import replacing_text
from napari_alnct.training.saving import saving

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

FILE_VERSION = "brain.Event:2"  # what TensorBoard expects in the first record of a file


class CsvLog:
    """A CSV file that grows by rows of numbers; the first row decides the columns.

    Parameters
    ----------
    path : Path
        The file; made with the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, row: Mapping[str, float | int]) -> None:
        """Append a row.

        Parameters
        ----------
        row : mapping of str to number
            Same columns every time; whole numbers stay whole, others get 6 digits.

        Raises
        ------
        ModelError
            If the disk does not take it.
        """
        with saving(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if not file.tell():
                writer.writeheader()
            writer.writerow({name: value if isinstance(value, int) else f"{value:.6g}" for name, value in row.items()})

    def cut_after(self, step: int) -> None:
        """Remove the rows beyond a step, and a last row that was cut short.

        Parameters
        ----------
        step : int
            Last step to keep, by the column ``step``.

        Raises
        ------
        ModelError
            If the disk does not take it.
        """
        if not self.path.is_file():
            return
        with self.path.open(newline="", encoding="utf-8", errors="replace") as file:
            lines = file.read().split("\n")
        header = lines[0].split(",")
        place = header.index("step") if "step" in header else 0
        kept = [line for line in lines[1:] if _step(line.split(","), place, len(header)) <= step]
        with saving(self.path):
            if not kept:
                self.path.unlink()
                return
            with replacing_text(self.path) as file:
                file.write("\n".join([lines[0], *kept, ""]))


def _step(cells: list[str], place: int, n_columns: int) -> float:
    """Give the step of a row; infinity for a row that is not whole."""
    if len(cells) != n_columns or not all(cells):
        return float("inf")
    try:
        return float(cells[place])
    except ValueError:
        return float("inf")


class TensorBoardLog:
    """Curves for TensorBoard in a folder of event files.

    Parameters
    ----------
    folder : Path
        Made when missing; each (resumed) run adds a file.
    from_step : int
        Steps that this run still has to take begin here: TensorBoard leaves out what older files say of them;
        0, for a run from the beginning: all that they say.
    """

    def __init__(self, folder: Path, *, from_step: int = 0) -> None:
        from tensorboard.compat.proto import event_pb2  # type: ignore[import-untyped]
        from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

        self.path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        with saving(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            has_older = any(folder.glob("events.out.tfevents.*"))
            self._file = open(self.path, "xb")  # noqa: SIM115 - closed by close()
        self._writer = RecordWriter(self._file)
        self._write(event_pb2.Event(file_version=FILE_VERSION))
        if has_older:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(event_pb2.Event(step=from_step, session_log=start))

    def __enter__(self) -> Self:
        """Give the log itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to curves.

        Parameters
        ----------
        step : int
            Optimiser steps taken so far.
        values : mapping of str to float
            Curve (``group/name``) to value.

        Raises
        ------
        ModelError
            If the disk does not take it.
        """
        from tensorboard.compat.proto import event_pb2, summary_pb2

        points = [summary_pb2.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(event_pb2.Event(step=step, summary=summary_pb2.Summary(value=points)))

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        with saving(self.path):
            self._writer.write(event.SerializeToString())
            self._file.flush()
