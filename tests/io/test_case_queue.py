"""A folder as a queue of cases: none skipped, progress kept, no name on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_alnct.core.errors import ReadError
from napari_alnct.core.geometry import Geometry
from napari_alnct.io.case_queue import CaseQueue
from napari_alnct.io.metaimage_writer import write_metaimage

CANARY = "DOE_JANE"
GRID = Geometry(shape_zyx=(2, 2, 2), spacing_zyx_mm=(1, 1, 1))


def folder_of(root: Path, n: int) -> Path:
    """Make a folder of tiny scans with names of patients."""
    folder = root / f"{CANARY}_scans"
    folder.mkdir()
    for k in range(n):
        write_metaimage(folder / f"{CANARY}_{k:02d}.mha", np.full((2, 2, 2), -900, np.int16), GRID)
    return folder


def queue_of(root: Path, folder: Path, reader: str = "R") -> CaseQueue:
    return CaseQueue(folder, root / "readings", reader)


def test_twenty_cases_are_visited_once_each(tmp_path: Path) -> None:
    """In order, over a restart in the middle; then none is left."""
    folder, seen = folder_of(tmp_path, 20), []
    queue = queue_of(tmp_path, folder)
    while (case := queue.next_case) is not None:
        queue.open(case)
        seen.append(case.number)
        queue.finish()
        if case.number == 11:
            queue = queue_of(tmp_path, folder)
    assert seen == list(range(1, 21))
    assert queue_of(tmp_path, folder).n_done == 20


def test_a_case_that_was_passed_over_comes_again(tmp_path: Path) -> None:
    """Opening the third case and going on does not forget the first two."""
    queue = queue_of(tmp_path, folder_of(tmp_path, 3))
    queue.open(queue.cases[2])
    queue.finish()
    assert queue.next_case == queue.cases[0]
    assert [case.status for case in queue.cases] == ["new", "new", "done"]


def test_opening_a_done_case_again_leaves_it_done(tmp_path: Path) -> None:
    """A second look is no step back."""
    queue = queue_of(tmp_path, folder_of(tmp_path, 1))
    queue.open(queue.cases[0])
    queue.finish()
    queue.open(queue.cases[0])
    assert queue.n_done == 1


def test_readers_have_progress_of_their_own(tmp_path: Path) -> None:
    """What one has done, the other has not."""
    folder = folder_of(tmp_path, 2)
    first = queue_of(tmp_path, folder)
    first.open(first.cases[0])
    first.finish()
    assert queue_of(tmp_path, folder, "other").n_done == 0


def test_no_name_of_a_file_is_written_or_shown(tmp_path: Path) -> None:
    """Titles and the file of progress hold numbers and hashes."""
    queue = queue_of(tmp_path, folder_of(tmp_path, 2))
    queue.open(queue.cases[0])
    assert CANARY not in queue.file.read_text() + str(queue.file.relative_to(tmp_path))
    assert all(CANARY not in case.title for case in queue.cases)


def test_the_order_of_a_study_is_kept(tmp_path: Path) -> None:
    """The queue takes the scans as they are given."""
    folder = folder_of(tmp_path, 3)
    paths = sorted(folder.iterdir())[::-1]
    assert [case.path for case in CaseQueue(folder, tmp_path / "r", "R", paths).cases] == paths


def test_an_empty_folder_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    """No scan, no queue."""
    with pytest.raises(ReadError, match="choose a folder with scans"):
        queue_of(tmp_path, tmp_path)


def test_damaged_progress_counts_as_none(tmp_path: Path) -> None:
    """The readings themselves are elsewhere; the queue begins anew."""
    folder = folder_of(tmp_path, 2)
    queue = queue_of(tmp_path, folder)
    queue.open(queue.cases[0])
    queue.file.write_text("{")
    assert queue_of(tmp_path, folder).cases[0].status == "new"
