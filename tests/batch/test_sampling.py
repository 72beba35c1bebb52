"""Patches of whole data sets: exact, reproducible, fair to nodule-free scans, whole or not at all.

Toy scans of 56 x 64 x 72 voxels; about 8 s of CPU.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.batch.leak_guard import guard_leaks
from napari_alnct.batch.mining import Miner
from napari_alnct.batch.sampling import HardSources, sample_patches
from napari_alnct.batch.sampling_record import SamplingReport
from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import JobCancelled, ModelError, ReadError, SettingsError, TableError
from napari_alnct.io.patch_store import PatchStore
from napari_alnct.io.prepared import PreparedDataset
from napari_alnct.training.sample_settings import SampleSettings

from ..core.tiny_models import write_tiny_model
from ..io.prepared_folder import LUNG_HU, NODULE_HU, TRIO, ToyScan, write_prepared

SMALL = SampleSettings(patch_vox=32, margin_vox=4, per_nodule=3, neg_ratio=2.0, clearance_mm=6.0)
FILES = ("patch_map.csv", "patches.npy", "patches.json", "example_pos.npy", "example_neg.npy")


def sample(root: Path, out: Path, settings: SampleSettings = SMALL, **options: object) -> SamplingReport:
    """Sample a prepared folder."""
    dataset = PreparedDataset.open(root)
    guard = guard_leaks(dataset.series, None, [])
    return sample_patches(dataset, out, settings, guard, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make three prepared scans: two nodules, none, one."""
    return write_prepared(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def store(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> PatchStore:
    """Sample them."""
    out = tmp_path_factory.mktemp("patches")
    sample(prepared, out)
    return PatchStore.open(out)


def test_numbers_are_those_asked_for(prepared: Path, tmp_path: Path) -> None:
    """3 nodules, 3 patches each, twice as many negatives: 6 from every scan."""
    report = sample(prepared, tmp_path / "out")
    assert (report.n_positives, report.n_nodules, report.n_outside) == (9, 3, 0)
    assert report.nodules_by_size == {"3-6 mm": 1, "6-10 mm": 1, "10-20 mm": 1}
    assert sum(report.negatives.values()) == 18
    assert (report.n_scans, report.n_nodule_free, report.n_scans_with_negatives) == (3, 1, 3)
    assert report.n_lacking == 0
    assert abs(report.negatives["lung"] - report.negatives["vessel"]) <= 3


def test_every_scan_supplies_equally_many_negatives(store: PatchStore) -> None:
    """The nodule-free one too; rows are in the order of the series, nodules first."""
    assert Counter(row.series_uid for row in store.rows if not row.label) == {"1.2.1": 6, "1.2.2": 6, "1.2.3": 6}
    assert [row.series_uid for row in store.rows] == sorted(row.series_uid for row in store.rows)
    assert [row.fold for row in store.rows if row.series_uid == "1.2.3"] == [2] * 9


def test_patches_are_the_voxels_around_their_centre(prepared: Path, store: PatchStore) -> None:
    """Every stored cube equals the padded scan there; world positions follow from the grid."""
    scans = {toy.uid: np.pad(toy.hu, 40, constant_values=-1200) for toy in TRIO}
    grids = {toy.uid: toy.geometry for toy in TRIO}
    for number, row in enumerate(store.rows):
        window = tuple(slice(c + 40 - 20, c + 40 + 20) for c in row.centre_zyx_vox)
        np.testing.assert_array_equal(store.hu[number], scans[row.series_uid][window])
        expected = grids[row.series_uid].index_to_world(row.centre_zyx_vox)
        np.testing.assert_allclose(row.position_xyz_mm, expected, rtol=0, atol=1e-9)


def test_nodules_are_bright_in_the_middle_and_negatives_keep_clear(store: PatchStore) -> None:
    """Positives: first patch centred, the others within 3 mm; negatives: beyond radius and 6 mm."""
    nodules = [(toy.uid, n, *ball) for toy in TRIO for n, ball in enumerate(toy.nodules)]
    for uid, n, centre, diameter in nodules:
        rows = [(i, row) for i, row in enumerate(store.rows) if (row.series_uid, row.nodule) == (uid, n)]
        assert [row.diameter_mm for _, row in rows] == [diameter] * 3
        steps = np.array([row.centre_zyx_vox for _, row in rows]) - centre
        assert np.abs(steps[0]).max() <= 0.5
        assert np.linalg.norm(steps[1:], axis=1).max() <= 3
        assert store.cube(rows[0][0])[16, 16, 16] == NODULE_HU
        n_bright = [(store.cube(i)[6:26, 6:26, 6:26] == NODULE_HU).sum() for i, _ in rows]
        assert n_bright == [n_bright[0]] * 3
        assert n_bright[0] > 50
    for row in store.rows:
        balls = [ball for toy in TRIO if toy.uid == row.series_uid for ball in toy.nodules]
        for centre, diameter in balls:
            if not row.label:
                assert np.linalg.norm(np.subtract(row.centre_zyx_vox, centre)) > diameter / 2 + 6


def test_examples_and_description_are_written(store: PatchStore) -> None:
    """A nodule, a negative, and all that the patches follow from."""
    assert np.load(store.folder / "example_pos.npy")[16, 16, 16] == NODULE_HU
    assert np.load(store.folder / "example_neg.npy").shape == (32, 32, 32)
    description = store.description
    assert description["leak_guard"]["level"] == "series"
    assert description["settings"]["per_nodule"] == 3
    assert description["series"] == ["1.2.1", "1.2.2", "1.2.3"]
    assert description["nodules"]["1.2.3"] == [{"nodule": 0, "centre_zyx_vox": [28.0, 32.0, 36.0], "diameter_mm": 12.0}]
    assert description["counts"]["n_positives"] == 9


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_same_seed_same_files(prepared: Path, store: PatchStore, tmp_path: Path, n_jobs: int) -> None:
    """Byte for byte, whatever the number of jobs and the order in manifest and labels."""
    shutil.copytree(prepared, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "volumes")
    write_prepared(tmp_path / "copy", TRIO[::-1])
    shutil.copy(prepared / "labels_vox.csv", tmp_path / "copy")
    sample(tmp_path / "copy", tmp_path / "out", n_jobs=n_jobs)
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (store.folder / name).read_bytes(), name


def test_another_seed_moves_what_is_drawn(prepared: Path, store: PatchStore, tmp_path: Path) -> None:
    """Jitter and negatives differ; the centred patches do not. More negatives leave the positives as they are."""
    sample(prepared, tmp_path / "a", dataclasses.replace(SMALL, seed=1))
    sample(prepared, tmp_path / "b", dataclasses.replace(SMALL, neg_ratio=1.0))
    other, fewer = PatchStore.open(tmp_path / "a"), PatchStore.open(tmp_path / "b")
    assert other.rows[0] == store.rows[0]
    assert other.rows[1:3] != store.rows[1:3]
    assert {row.centre_zyx_vox for row in other.rows if not row.label}.isdisjoint(
        row.centre_zyx_vox for row in store.rows if not row.label
    )
    assert [row for row in fewer.rows if row.label] == [row for row in store.rows if row.label]


def test_a_nodule_outside_the_box_is_skipped_and_still_kept_clear_of(tmp_path: Path) -> None:
    """It is counted; no negative lies within its 25 mm and the clearance."""
    outside = ((30.0, 32.0, 74.0), 50.0)
    write_prepared(tmp_path / "in", [ToyScan("1", nodules=(((20.0, 20.0, 20.0), 6.0), outside))])
    report = sample(tmp_path / "in", tmp_path / "out")
    assert (report.n_nodules, report.n_outside) == (1, 1)
    negatives = [row for row in PatchStore.open(tmp_path / "out").rows if not row.label]
    assert min(np.linalg.norm(np.subtract(row.centre_zyx_vox, outside[0])) for row in negatives) > 31


def table_candidates(prepared: Path) -> dict[str, np.ndarray]:
    """Give candidates on every nodule, on the excluded finding, and in free lung."""
    free = [(12, 50, 14), (12, 12, 60), (44, 50, 30), (30, 50, 12)]
    found = {}
    for toy in TRIO:
        balls = [centre for centre, _ in (*toy.nodules, *toy.excluded)]
        found[toy.uid] = toy.geometry.index_to_world(np.array([*balls, *free], float))
    return found


def test_hard_negatives_of_a_table_are_never_on_findings(prepared: Path, tmp_path: Path) -> None:
    """Each scan gives all its free candidates, not those on nodules and on the excluded finding."""
    settings = dataclasses.replace(SMALL, hard_share=1.0, neg_ratio=4 / 3)
    hard = HardSources(candidates=table_candidates(prepared), candidates_name="c.csv")
    report = sample(prepared, tmp_path / "out", settings, hard=hard)
    assert report.negatives == {"candidate": 12}
    store = PatchStore.open(tmp_path / "out")
    taken = {row.centre_zyx_vox for row in store.rows if row.kind == "candidate"}
    assert taken == {(12, 50, 14), (12, 12, 60), (44, 50, 30), (30, 50, 12)}
    assert store.description["hard_negatives"] == {"candidates": "c.csv", "model": None}


def test_candidates_that_lack_are_replaced(prepared: Path, tmp_path: Path) -> None:
    """A table that knows one of three scans: the others give vessels and lung instead, as many as asked for."""
    found = {"1.2.2": table_candidates(prepared)["1.2.2"]}
    settings = dataclasses.replace(SMALL, hard_share=1.0, neg_ratio=1.0)
    report = sample(prepared, tmp_path / "out", settings, hard=HardSources(candidates=found))
    assert report.negatives == {"candidate": 3, "lung": 2, "vessel": 4}


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write an untrained model, which marks places everywhere."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    write_tiny_model(path, with_classifier=False)
    return str(path)


def test_mined_negatives_are_the_false_marks(prepared: Path, tmp_path: Path, tiny_model: str) -> None:
    """Mined patches lie on false marks, the strongest first; hits and marks on excluded findings are none."""
    dataset = PreparedDataset.open(prepared)
    miner = Miner(tiny_model, dataset.prepare, "cpu")
    settings = dataclasses.replace(SMALL, hard_share=1.0, neg_ratio=1.0)
    report = sample(prepared, tmp_path / "out", settings, hard=HardSources(miner=miner), n_jobs=2)
    assert report.negatives == {"mined": 9}
    store = PatchStore.open(tmp_path / "out")
    assert store.description["hard_negatives"]["model"]["name"] == "tiny"
    for toy, scan in zip(TRIO, dataset.scans, strict=True):
        marks = miner.false_marks(dataset, scan.series_uid, *dataset.read(scan), lambda: False)
        voxels = [tuple(v) for v in np.rint(toy.geometry.world_to_index(marks)).astype(int)]
        places = [voxels.index(row.centre_zyx_vox) for row in store.rows if (row.series_uid, row.label) == (toy.uid, 0)]
        assert places == sorted(places)
        for centre, diameter in (*toy.nodules, *toy.excluded):
            radius = 5.0 if diameter < 0 else diameter / 2
            assert np.linalg.norm(np.array(toy.geometry.world_to_index(marks)) - centre, axis=1).min() >= radius


def test_a_model_needs_scans_prepared_its_way(tiny_model: str) -> None:
    """Another spacing or a narrower window would give marks of no meaning; a wider window is clipped."""
    with pytest.raises(SettingsError, match="tiny works at 1 mm, these scans are prepared at 2 mm"):
        Miner(tiny_model, PrepareSettings(spacing_mm=2.0))
    with pytest.raises(SettingsError, match="tiny sees -1000 to 400 HU, these scans are clipped to -1200 to 300"):
        Miner(tiny_model, PrepareSettings(high_hu=300.0))
    with pytest.raises(ModelError):
        Miner("no-such-model", PrepareSettings())


def test_a_scan_without_places_gives_fewer(tmp_path: Path) -> None:
    """A clearance as large as the scan leaves no place beside its nodule: told, not hidden."""
    write_prepared(tmp_path / "in", TRIO[1:])
    report = sample(tmp_path / "in", tmp_path / "out", dataclasses.replace(SMALL, clearance_mm=100.0))
    assert (report.n_positives, sum(report.negatives.values()), report.n_lacking) == (3, 3, 3)


def test_no_negatives_may_be_wanted(prepared: Path, tmp_path: Path) -> None:
    """A ratio of 0 gives nodules alone."""
    report = sample(prepared, tmp_path / "out", dataclasses.replace(SMALL, neg_ratio=0.0))
    assert (report.n_positives, report.negatives) == (9, {})


def remove_a_volume(root: Path) -> None:
    (root / "volumes" / "1.2.3.mha").unlink()


def break_a_volume(root: Path) -> None:
    path = root / "volumes" / "1.2.3.mha"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "error", "sentence"),
    [
        (remove_a_volume, TableError, r"the first is volumes/1\.2\.3\.mha"),
        (break_a_volume, ReadError, r"1\.2\.3\.mha"),
    ],
)
def test_a_fault_leaves_nothing(tmp_path: Path, spoil: Callable[[Path], None], error: type, sentence: str) -> None:
    """Of scans that cannot be read nothing is written, also when it shows late."""
    write_prepared(tmp_path / "in")
    spoil(tmp_path / "in")
    with pytest.raises(error, match=sentence):
        sample(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scans_without_nodules_are_refused(tmp_path: Path) -> None:
    """One sentence with the next step."""
    write_prepared(tmp_path / "in", TRIO[1:2])
    with pytest.raises(TableError, match=r"labels_vox\.csv lists no nodule inside the 1 scans of the selection"):
        sample(tmp_path / "in", tmp_path / "out")


def test_a_cancelled_run_keeps_the_patches_before_it(prepared: Path, tmp_path: Path) -> None:
    """Old patches stay whole; the half-written file is gone."""
    out = tmp_path / "out"
    sample(prepared, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    done: list = []
    with pytest.raises(JobCancelled):
        sample(
            prepared,
            out,
            dataclasses.replace(SMALL, seed=5),
            on_progress=done.append,
            is_cancelled=lambda: len(done) >= 1,
        )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_full_disk_is_told_before_the_work(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """27 patches of 40 voxels cubed need 3.5 MB."""
    usage = shutil.disk_usage(tmp_path)._replace(free=3_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SettingsError, match=r"27 patches need 0\.0 GB, the disk has 0\.0 GB free"):
        sample(prepared, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_lung_is_lung(store: PatchStore) -> None:
    """Random lung of a toy scan is mostly plain lung, vessels are dense: the middle voxel tells."""
    middles = {kind: [] for kind in ("lung", "vessel")}
    for number, row in enumerate(store.rows):
        if not row.label:
            middles[row.kind].append(int(store.cube(number)[16, 16, 16]))
    assert set(middles["vessel"]) == {0}
    assert np.median(middles["lung"]) == LUNG_HU


def test_description_is_plain_json(store: PatchStore) -> None:
    """It has no path in it."""
    text = (store.folder / "patches.json").read_text()
    json.loads(text)
    assert str(store.folder.parent) not in text
