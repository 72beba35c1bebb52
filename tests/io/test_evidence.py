"""Evidence maps on disk and as pictures: read back unchanged, in the same place for others, upright, on one scale."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.image import imread

from napari_alnct.core.errors import ReadError, TableError
from napari_alnct.core.evidence import CAPTION, NO_SUPPORT, EvidenceMap
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.notice import NOTICE
from napari_alnct.core.volume import Volume
from napari_alnct.io import evidence_pictures as pictures
from napari_alnct.io.evidence import EvidenceChecks, SharedScale, read_evidence, write_evidence
from napari_alnct.io.evidence_pictures import evidence_colours, evidence_png

CELLS = Geometry(shape_zyx=(5, 6, 7), spacing_zyx_mm=(4.0, 4.0, 4.0), origin_xyz_mm=(-31.123456789, 7.1, -200.3))
SCAN = Geometry(shape_zyx=(40, 90, 90), spacing_zyx_mm=(2.0, 1.0, 1.0), origin_xyz_mm=(-45.0, -40.0, -230.0))
SCALE = SharedScale(limit=2.0, n_maps=3)
PANEL_PX = round(pictures.EDGE_MM / pictures.PIXEL_MM)


def evidence(values: np.ndarray | None = None, **changes: Any) -> EvidenceMap:
    rng = np.random.default_rng(0)
    given: dict[str, Any] = {
        "values": rng.normal(size=CELLS.shape_zyx).astype(np.float32) if values is None else values.astype(np.float32),
        "geometry": CELLS,
        "position_xyz_mm": (-20.1, 18.2, -191.7),
        "method": "gradcam++",
        "layer": "encoder.stages.1",
        "score_name": "second look",
        "logit": 1 / 3,
        "candidate": "candidates.csv row 3, größer",
        "model_name": "m",
        "model_sha256": "ab" * 32,
        "unit": "logit per cell",
    }
    return EvidenceMap(**(given | changes))


def scan() -> Volume:
    """Give lung everywhere."""
    return Volume(np.full(SCAN.shape_zyx, -850, np.int16), SCAN, SCAN)


def pixels_of(png: bytes) -> np.ndarray:
    """Give the picture as (rows, columns, 3), 0 to 255."""
    return np.rint(imread(io.BytesIO(png))[..., :3] * 255).astype(int)


def tint(pixels: np.ndarray) -> np.ndarray:
    """Give red minus blue: above 0 orange, below blue, 0 for grey and the green ring."""
    return pixels[..., 0] - pixels[..., 2]


@pytest.mark.parametrize("suffix", [".mha", ".json"])
def test_a_map_reads_back_unchanged(tmp_path: Path, suffix: str) -> None:
    """Every bit of values, grid, logit and names, by either file of the pair."""
    one = evidence()
    write_evidence(tmp_path / "a.mha", one, SCALE)
    found = read_evidence((tmp_path / "a").with_suffix(suffix))
    assert found.values.dtype == np.float32
    assert found.values.tobytes() == one.values.tobytes()
    assert {**vars(found), "values": None} == {**vars(one), "values": None}


def test_another_program_sees_it_in_the_same_place(tmp_path: Path) -> None:
    """SimpleITK at 100 points among the cell centres: within 1e-3 and of the same sign (the file's side of X6)."""
    one = evidence()
    write_evidence(tmp_path / "a.mha", one, SCALE)
    image = sitk.ReadImage(str(tmp_path / "a.mha"))
    index = np.random.default_rng(1).uniform(0, np.array(CELLS.shape_zyx) - 1, (100, 3))
    world = CELLS.index_to_world(index)
    theirs = np.array([image.EvaluateAtPhysicalPoint(point, sitk.sitkLinear) for point in world.tolist()])
    ours = one.at(world)
    assert np.abs(theirs - ours).max() <= 1e-3
    assert (np.sign(theirs) == np.sign(ours)).all()


def test_the_facts_beside_the_map(tmp_path: Path) -> None:
    """Score, logit, layer, method, unit, checks, scale, model, caption and notice."""
    checks = EvidenceChecks(
        completeness_error=1e-7, agreement_with_occlusion=0.1, rank_agreement_with_occlusion=0.7, notes=("small",)
    )
    write_evidence(tmp_path / "a.mha", evidence(), SCALE, checks)
    facts = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert (facts["caption"], facts["notice"], facts["remark"]) == (CAPTION, NOTICE, "")
    assert (facts["method"], facts["layer"], facts["score_name"]) == ("gradcam++", "encoder.stages.1", "second look")
    assert facts["logit"] == 1 / 3
    assert facts["scale"] == {"limit": 2.0, "n_maps": 3}
    assert facts["checks"] == {
        "completeness_error": 1e-7,
        "agreement_with_occlusion": 0.1,
        "rank_agreement_with_occlusion": 0.7,
        "notes": ["small"],
        "badge": "no reliable map",
    }
    assert facts["cell_zyx_mm"] == [4.0, 4.0, 4.0]
    assert facts["peak_xyz_mm"] == list(evidence().peak_xyz_mm)
    write_evidence(tmp_path / "b.mha", evidence(-np.ones(CELLS.shape_zyx)), SCALE)
    facts = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    assert (facts["remark"], facts["peak_xyz_mm"], facts["strongest_support"]) == (NO_SUPPORT, None, 0.0)


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    """Another map's facts, broken facts, none at all, no map."""
    write_evidence(tmp_path / "a.mha", evidence(), SCALE)
    write_evidence(tmp_path / "b.mha", evidence(np.ones(CELLS.shape_zyx)), SCALE)
    (tmp_path / "a.json").write_bytes((tmp_path / "b.json").read_bytes())
    with pytest.raises(TableError, match=r"a\.json belongs to another map than a\.mha"):
        read_evidence(tmp_path / "a.mha")
    (tmp_path / "a.json").write_text('{"format": 9}')
    with pytest.raises(TableError, match=r"a\.json cannot be read as an explanation \(format 9"):
        read_evidence(tmp_path / "a.mha")
    (tmp_path / "a.json").unlink()
    with pytest.raises(TableError, match=r"a\.json cannot be read"):
        read_evidence(tmp_path / "a.mha")
    with pytest.raises(ReadError):
        read_evidence(tmp_path / "c.mha")


def test_colours_are_clear_around_zero_and_signed() -> None:
    """Within 5 % of the top unchanged; orange above, blue below; stronger is stronger; beyond the top no more."""
    grey = np.full((7, 3), 80, np.float32)
    found = tint(evidence_colours(grey, np.array([0.0, 0.09, -0.09, 1.0, 2.0, 5.0, -2.0]), limit=2.0).astype(int))
    assert found[:3].tolist() == [0, 0, 0]
    assert 0 < found[3] < found[4] == found[5]
    assert found[6] < -50


def test_evidence_lies_where_it_belongs_and_upright() -> None:
    """A hot cell 12 mm to the left, 8 mm in front of and 4 mm above the candidate, in each plane where it is cut."""
    where = np.array([-20.1 + 12, 18.2 - 8, -191.7 + 4])
    cells = Geometry(shape_zyx=(3, 3, 3), spacing_zyx_mm=(4.0,) * 3, origin_xyz_mm=tuple(where - 4))
    values = np.zeros((3, 3, 3))
    values[1, 1, 1] = 2.0
    one = evidence(values, geometry=cells)
    sheet = tint(pixels_of(evidence_png(one, scan(), SCALE)))
    top = pictures.HEAD_PX + PANEL_PX + pictures.LABEL_PX
    panels = [sheet[top : top + PANEL_PX, left : left + PANEL_PX] for left in (10, 20 + PANEL_PX, 30 + 2 * PANEL_PX)]
    assert [bool((panel > 20).any()) for panel in panels] == [
        False,
        False,
        False,
    ]  # 4, 8, 12 mm off every plane's slice
    for offset, panel_number, expected_mm in (
        ((12, -8, 0), 0, (12, -8)),
        ((12, 0, 4), 1, (12, -4)),
        ((0, -8, 4), 2, (-8, -4)),
    ):
        there = np.array(one.position_xyz_mm) + offset
        moved = replace(one, geometry=replace(cells, origin_xyz_mm=tuple(there - 4)))
        sheet = tint(pixels_of(evidence_png(moved, scan(), SCALE)))
        left = (10, 20 + PANEL_PX, 30 + 2 * PANEL_PX)[panel_number]
        rows, columns = np.nonzero(sheet[top : top + PANEL_PX, left : left + PANEL_PX] > 60)
        found_mm = (np.array([columns.mean(), rows.mean()]) - (PANEL_PX - 1) / 2) * pictures.PIXEL_MM
        assert np.abs(found_mm - expected_mm).max() <= 1.0


def test_all_pictures_of_a_run_share_one_scale() -> None:
    """The same map under a ten times larger limit is nearly clear; no picture is stretched to its own maximum."""
    values = np.zeros(CELLS.shape_zyx)
    values[2, 3, 3] = 2.0
    top, bottom = pictures.HEAD_PX + PANEL_PX + pictures.LABEL_PX, -pictures.FOOT_PX
    area = (slice(top, bottom), slice(0, -pictures.SIDE_PX))
    strong, weak = (
        tint(pixels_of(evidence_png(evidence(values), scan(), SharedScale(limit=limit)))[area]).max()
        for limit in (2.0, 20.0)
    )
    assert strong > 150
    assert weak < 40


def test_no_positive_evidence_is_a_sentence_not_a_blob() -> None:
    """No coloured pixel anywhere on the sheet, though the map argues against the score."""
    sheet = tint(pixels_of(evidence_png(evidence(-np.ones(CELLS.shape_zyx)), scan(), SCALE)))
    assert np.abs(sheet).max() <= 2
    painted = tint(pixels_of(evidence_png(evidence(), scan(), SCALE)))
    assert (painted.max(), painted.min()) > (50, -300)
    assert painted.min() < -50


def test_names_are_text() -> None:
    """A name with marks of a formula, line ends or foreign letters is drawn as it is, without warnings."""
    checks = EvidenceChecks(agreement_with_occlusion=0.1)
    one = evidence(candidate="_$\\frac{1}{0}$ \n 肺 " + "x" * 200, model_name="$m$")
    assert evidence_png(one, scan(), SCALE, checks).startswith(b"\x89PNG")
