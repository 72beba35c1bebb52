"""Phantom data sets: the layout and tables of LUNA16, and files that agree with them."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.core.config import from_json
from napari_alnct.core.errors import SettingsError
from napari_alnct.core.volume import Volume
from napari_alnct.data.phantom import PhantomSettings, ScanTruth, make_phantom, plan_dataset, write_phantom_dataset
from napari_alnct.data.phantom_dataset import FLIPPED
from napari_alnct.io.metaimage import read_metaimage, write_metaimage

SHAPE = (64, 112, 112)  # a very small chest: about a second per scan
N_SCANS, SEED = 5, 3


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[ScanTruth, ...]]:
    """Five tiny scans on disk."""
    out = tmp_path_factory.mktemp("phantoms")
    plans = plan_dataset(N_SCANS, SEED, shape_zyx=SHAPE)
    return out, write_phantom_dataset(out, N_SCANS, SEED, write_image=write_metaimage, settings=plans)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_scan_lies_in_its_subset_with_a_mask(dataset: tuple[Path, tuple[ScanTruth, ...]]) -> None:
    """Scan i is in subset i modulo 10; all ten subset folders exist; each scan has a lung mask."""
    out, truths = dataset
    assert sorted(p.name for p in out.glob("subset*")) == [f"subset{k}" for k in range(10)]
    for i, truth in enumerate(truths):
        for folder in (f"subset{i % 10}", "seg-lungs-LUNA16"):
            assert (out / folder / f"{truth.settings.uid}.mhd").is_file()
            assert (out / folder / f"{truth.settings.uid}.zraw").is_file()
    assert not list(out.rglob("*.part"))


def test_identifiers_are_synthetic_dicom_uids(dataset: tuple[Path, tuple[ScanTruth, ...]]) -> None:
    """Digits and dots, at most 64 characters, the root of the phantoms; listed without a header."""
    out, truths = dataset
    listed = (out / "CSVFILES" / "seriesuids.csv").read_text(encoding="utf-8").splitlines()
    assert listed == [t.settings.uid for t in truths]
    for uid in listed:
        assert uid.startswith("2.25.")
        assert len(uid) <= 64
        assert all(part.isdigit() for part in uid.split("."))


def test_tables_hold_the_truth(dataset: tuple[Path, tuple[ScanTruth, ...]]) -> None:
    """The official columns; each number is the exact value of the finding."""
    out, truths = dataset
    for name, pick in (("annotations.csv", "nodules"), ("annotations_excluded.csv", "excluded")):
        path = out / "CSVFILES" / name
        assert path.read_text(encoding="utf-8").splitlines()[0] == "seriesuid,coordX,coordY,coordZ,diameter_mm"
        found = [tuple(row.values()) for row in _rows(path)]
        expected = [
            (f.series_uid, *(repr(v) for v in (*f.position_xyz_mm, f.diameter_mm)))
            for truth in truths
            for f in getattr(truth, pick)
        ]
        assert found == expected


def test_truth_table_names_kind_and_contact(dataset: tuple[Path, tuple[ScanTruth, ...]]) -> None:
    """One row per finding; those that count have a contact, the others none."""
    out, truths = dataset
    rows = _rows(out / "truth.csv")
    assert Counter(row["counts"] for row in rows) == {
        "1": sum(len(t.nodules) for t in truths),
        "0": sum(len(t.excluded) for t in truths),
    }
    assert all((row["contact"] != "") == (row["counts"] == "1") for row in rows)
    assert {row["kind"] for row in rows if row["counts"] == "1"} <= {"solid", "part_solid", "ground_glass"}


def test_files_are_the_scans_of_the_stored_settings(dataset: tuple[Path, tuple[ScanTruth, ...]]) -> None:
    """A flipped scan, read back, equals the phantom made again from phantom_settings.json."""
    out, truths = dataset
    stored = json.loads((out / "phantom_settings.json").read_text(encoding="utf-8"))
    i = next(i for i, t in enumerate(truths) if t.settings.direction == FLIPPED)
    uid = truths[i].settings.uid
    settings = from_json(PhantomSettings, stored[uid])
    image = read_metaimage(out / f"subset{i}" / f"{uid}.mhd")
    assert image.geometry.direction == FLIPPED
    read = Volume.from_source(image.array, image.geometry)
    made = make_phantom(settings)
    assert np.array_equal(read.hu, made.volume.hu)
    assert np.allclose(read.geometry.origin_xyz_mm, made.volume.geometry.origin_xyz_mm, rtol=0, atol=1e-9)


def test_masks_have_the_labels_of_luna16(dataset: tuple[Path, tuple[ScanTruth, ...]]) -> None:
    """3 left lung, 4 right lung, 5 airway, on the grid of the scan; the left lung lies at larger x."""
    out, truths = dataset
    for i, truth in enumerate(truths):
        name = f"{truth.settings.uid}.mhd"
        scan, mask = read_metaimage(out / f"subset{i}" / name), read_metaimage(out / "seg-lungs-LUNA16" / name)
        assert mask.geometry == scan.geometry
        assert mask.array.dtype == np.uint8
        assert set(np.unique(mask.array)) == {0, 3, 4, 5}
        left, right = (mask.geometry.index_to_world(np.argwhere(mask.array == k).mean(0)) for k in (3, 4))
        assert left[0] > right[0] + 30


def test_one_scan_in_five_has_no_nodule() -> None:
    """In each block of five exactly one scan is planned without nodules."""
    plans = plan_dataset(50, 9)
    free = [plan.n_nodules == 0 for plan in plans]
    assert all(sum(free[k : k + 5]) == 1 for k in range(0, 50, 5))


def test_grids_noise_padding_and_directions_vary() -> None:
    """Slices 0.6 to 2.5 mm, pixels 0.55 to 0.9 mm, some flipped, some padded, whole chests."""
    plans = plan_dataset(60, 2)
    assert all(0.6 <= p.spacing_zyx_mm[0] <= 2.5 and 0.55 <= p.spacing_zyx_mm[1] <= 0.9 for p in plans)
    assert all(280 <= p.shape_zyx[0] * p.spacing_zyx_mm[0] <= 340 for p in plans)
    assert len({p.spacing_zyx_mm for p in plans}) > 40
    assert 5 < sum(p.direction == FLIPPED for p in plans) < 30
    assert 5 < sum(p.padding_hu in (-2000, -3024) for p in plans) < 35
    assert len({p.seed for p in plans}) == 60


def test_the_first_scans_do_not_depend_on_the_number() -> None:
    """Ten scans of a seed are the first ten of a hundred; another seed shares none."""
    assert plan_dataset(10, 4) == plan_dataset(100, 4)[:10]
    assert not {p.seed for p in plan_dataset(10, 4)} & {p.seed for p in plan_dataset(10, 5)}


def test_another_data_set_is_not_mixed_in(dataset: tuple[Path, tuple[ScanTruth, ...]]) -> None:
    """A folder with other series is refused before anything is written."""
    out, _ = dataset
    with pytest.raises(SettingsError, match="holds another data set"):
        write_phantom_dataset(out, 2, SEED + 1, write_image=write_metaimage)
    file = out / "truth.csv"
    with pytest.raises(SettingsError, match="is a file"):
        write_phantom_dataset(file, 1, SEED, write_image=write_metaimage)


def test_scans_need_different_identifiers(tmp_path: Path) -> None:
    """Two scans with one series identifier would overwrite each other."""
    with pytest.raises(SettingsError, match="same series identifier"):
        write_phantom_dataset(
            tmp_path, 2, 0, write_image=write_metaimage, settings=[PhantomSettings(), PhantomSettings()]
        )


def test_processes_and_progress_do_not_change_the_files(
    dataset: tuple[Path, tuple[ScanTruth, ...]], tmp_path: Path
) -> None:
    """Two at a time give the same bytes; progress counts up to the number of scans."""
    out, _ = dataset
    told: list[tuple[int, int]] = []
    plans = plan_dataset(2, SEED, shape_zyx=SHAPE)
    write_phantom_dataset(
        tmp_path, 2, SEED, write_image=write_metaimage, settings=plans, jobs=2, masks=False,
        progress=lambda done, total, _uid: told.append((done, total)),
    )  # fmt: skip
    assert told == [(1, 2), (2, 2)]
    assert not (tmp_path / "seg-lungs-LUNA16").exists()
    for i, plan in enumerate(plans):
        name = f"subset{i}/{plan.uid}.zraw"
        assert _digest(tmp_path / name) == _digest(out / name)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_number_of_nodules_can_be_chosen() -> None:
    """Scans with nodules plan the asked number; the nodule-free ones, and all else, stay as they are."""
    usual, asked = plan_dataset(10, 4), plan_dataset(10, 4, n_nodules=(6, 12))
    assert {plan.n_nodules for plan in asked} == {0, (6, 12)}
    assert [plan.n_nodules == 0 for plan in asked] == [plan.n_nodules == 0 for plan in usual]
    assert [plan.seed for plan in asked] == [plan.seed for plan in usual]
