"""The malformed MetaImage corpus: every case gives exactly the outcome of the reader contract.

"Exactly" means: the listed code or an accepted volume equal to SimpleITK's, no
other exception, less than 1 s and less than 64 MB of extra memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from napari_alnct.core.errors import ReadError
from napari_alnct.io.metaimage import MetaImage, check_hu, read_metaimage

from ..corpus.mhd_builder import ACCEPT, VOXELS, MhdCase
from ..corpus.mhd_cases import CASES, EXTRA_CASES

MAX_SECONDS = 1.0
MAX_EXTRA_BYTES = 64_000_000
ALL_CASES = [pytest.param(case, id=case.case_id) for case in (*CASES, *EXTRA_CASES)]
ACCEPTED = [pytest.param(case, id=case.case_id) for case in (*CASES, *EXTRA_CASES) if case.is_accepted]
DANGEROUS = ("19_zip_bomb", "37_dim_huge", "38_dim_16g", "94_dim_20g_sparse")

# Run in a fresh process: prints the outcome and by how many bytes the peak of the resident memory grew.
MEASURE_RESIDENT = """
import resource, sys
from pathlib import Path
from napari_alnct.core.errors import ReadError
from napari_alnct.io.metaimage import read_metaimage
unit = 1 if sys.platform == "darwin" else 1024
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_metaimage(Path(sys.argv[1]))
    code = "accept"
except ReadError as error:
    code = error.code
print(code, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit)
"""


def skip_where_impossible(case: MhdCase) -> None:
    """Skip a case whose input this system cannot make."""
    if "fifo" in case.needs and not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    if "symlink" in case.needs and sys.platform == "win32":
        pytest.skip("symbolic links need a privilege here")
    if "sparse" in case.needs and sys.platform == "win32":
        pytest.skip("a 20 GiB file would fill the disk here")
    if "modes" in case.needs and (sys.platform == "win32" or os.geteuid() == 0):
        pytest.skip("this user reads every file")


def outcome(path: Path) -> tuple[str, str, MetaImage | None]:
    """Give the code of a file, what was said about it, and the volume when there is one."""
    try:
        image = read_metaimage(path)
    except ReadError as error:
        return error.code, str(error), None
    doubt = check_hu(image.array, path.name)
    if doubt is not None and "outside" in doubt.found:  # the range part of the HU check
        return doubt.code, str(doubt), image
    return ACCEPT, " ".join(image.warnings), image


@pytest.mark.parametrize("case", ALL_CASES)
def test_each_case_gives_its_outcome(case: MhdCase, tmp_path: Path) -> None:
    """Code, text, time and memory are as the contract demands; no other exception leaves the reader."""
    skip_where_impossible(case)
    path = case.build(tmp_path)
    tracemalloc.start()
    try:
        start = time.perf_counter()
        code, text, _ = outcome(path)
        seconds = time.perf_counter() - start
        extra_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert code in case.codes, text
    assert [part for part in case.text if part not in text] == []
    assert str(tmp_path) not in text
    assert "/etc" not in text
    assert text.isprintable()
    assert seconds < MAX_SECONDS
    assert extra_bytes < MAX_EXTRA_BYTES


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted_volumes_equal_simpleitk(case: MhdCase, tmp_path: Path) -> None:
    """Where a case is accepted, voxels and geometry are SimpleITK's, and world and index agree both ways."""
    skip_where_impossible(case)
    path = case.build(tmp_path)
    image = read_metaimage(path)
    oracle = sitk.ReadImage(str(path))
    voxels = sitk.GetArrayFromImage(oracle)
    assert image.array.dtype == voxels.dtype
    assert image.array.dtype.isnative
    assert image.array.flags.owndata
    np.testing.assert_array_equal(image.array, voxels)
    assert image.geometry.spacing_zyx_mm[::-1] == oracle.GetSpacing()
    assert image.geometry.origin_xyz_mm == oracle.GetOrigin()
    assert image.geometry.direction == oracle.GetDirection()
    for index_xyz in ((0, 0, 0), (7, 0, 0), (1, 2, 3), (7, 7, 7)):
        world = oracle.TransformIndexToPhysicalPoint(index_xyz)
        np.testing.assert_allclose(image.geometry.index_to_world(index_xyz[::-1]), world, rtol=0, atol=1e-9)
        np.testing.assert_allclose(image.geometry.world_to_index(world), index_xyz[::-1], rtol=0, atol=1e-9)


def test_flipped_scan_by_hand(tmp_path: Path) -> None:
    """In the LUNA16-style flipped case, one step along x goes 0.7 mm to the right, one along z 1.25 mm up."""
    case = next(case for case in CASES if case.case_id == "63_tm_flip")
    image = read_metaimage(case.build(tmp_path))
    np.testing.assert_allclose(image.geometry.index_to_world([1, 0, 1]), [-10.7, -20.0, -28.75], rtol=0, atol=1e-12)
    np.testing.assert_allclose(image.geometry.world_to_index([-10.7, -20.7, -30.0]), [0, 1, 1], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(image.array, VOXELS)


def test_corpus_is_complete() -> None:
    """The table holds the 95 cases of the contract, numbered 00 to 94, each once."""
    assert [int(case.case_id[:2]) for case in CASES] == list(range(95))
    assert len({case.case_id for case in (*CASES, *EXTRA_CASES)}) == len(CASES) + len(EXTRA_CASES)
    accepted = [case.case_id[:2] for case in CASES if case.codes == (ACCEPT,)]
    assert accepted == ["00", "12", "13", "58", "63", "83", "89", "90", "92"]


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is for POSIX systems")
@pytest.mark.parametrize("case_id", DANGEROUS)
def test_huge_claims_take_no_resident_memory(case_id: str, tmp_path: Path) -> None:
    """In a process of its own, a file that claims gigabytes makes the resident memory grow by less than 64 MB."""
    case = next(case for case in CASES if case.case_id == case_id)
    path = case.build(tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE_RESIDENT, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    code, grown = run.stdout.split()
    assert code in case.codes
    assert int(grown) < MAX_EXTRA_BYTES


_opened: list[str] | None = None


def _note_opening(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], (str, bytes, os.PathLike)):
        _opened.append(os.fsdecode(arguments[0]))


sys.addaudithook(_note_opening)


@pytest.mark.parametrize("case", ALL_CASES)
def test_no_foreign_file_is_opened(case: MhdCase, tmp_path: Path) -> None:
    """Nothing outside the folder of the header is opened, and of an unsupported or irregular one only the header."""
    global _opened
    skip_where_impossible(case)
    path = case.build(tmp_path)
    outcome(path)  # imports what is imported late
    _opened = []
    try:
        code = outcome(path)[0]
        opened = [Path(os.path.realpath(name)) for name in _opened]
    finally:
        _opened = None
    folder = Path(os.path.realpath(path.parent))
    assert {file.parent for file in opened} == {folder}
    if code in ("E_UNSUPPORTED", "E_NOT_REGULAR"):
        assert {file.name for file in opened} == {path.name}
