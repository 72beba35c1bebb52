"""The report of a reading: self-contained, with every caveat, its pictures and states that are told apart."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.image import imread

from napari_alnct.core.errors import ReviewError
from napari_alnct.core.notice import CATEGORY_CAVEAT, HEATMAP_CAVEAT, NOTICE, THRESHOLD_CAVEAT
from napari_alnct.core.review_actions import AddMark, MarkSearched, SetCandidates, SetThreshold
from napari_alnct.core.volume import QualityFlag, Volume
from napari_alnct.io import review_report
from napari_alnct.io.review_record import Reading
from napari_alnct.io.review_report import STATUS_COLOURS, ReportOptions, report_html
from tests.io.reading_case import actions, candidates, reading, scan

DECIDED = actions(())


class Page(HTMLParser):
    """Collects tags, addresses and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page(made: Reading, volume: Volume | None = None, **options: object) -> Page:
    return Page(report_html(made, volume, ReportOptions(**options)))  # type: ignore[arg-type]


def pictures(found: Page) -> list[np.ndarray]:
    """Give the pictures of a page, 0 to 255."""
    files = [base64.b64decode(address.removeprefix("data:image/png;base64,")) for address in found.addresses]
    return [np.rint(imread(io.BytesIO(file)) * 255).astype(int) for file in files]


def test_the_page_needs_nothing_but_itself() -> None:
    """No script, no link, no address but data in it; its policy forbids every request."""
    html = report_html(reading(), scan(), ReportOptions())
    found = Page(html)
    assert {"script", "link", "iframe", "form", "object"} & set(found.tags) == set()
    assert found.addresses
    assert all(address.startswith("data:image/png;base64,") for address in found.addresses)
    assert "default-src 'none'" in html
    assert not re.search(r"url\(|@import|https?://", re.sub(r"base64,[^\"]*", "", html.replace("http://x", "")))


def test_every_caveat_is_there() -> None:
    """Those of the design, and the notice at the top and at the end."""
    text = page(reading(), scan()).text
    for caveat in (THRESHOLD_CAVEAT, CATEGORY_CAVEAT, HEATMAP_CAVEAT, "does not mean that there is no nodule"):
        assert caveat in text
    assert text.count(NOTICE) == 2


def test_each_finding_has_three_pictures_with_its_ring() -> None:
    """Two findings: six pictures, the accepted one's ring green, the uncertain one's yellow."""
    found = page(reading(DECIDED), scan())
    images = pictures(found)
    assert len(images) == 6
    for image, status in zip(images[::3], ("accepted", "uncertain"), strict=True):
        assert (np.abs(image - STATUS_COLOURS[status]).sum(axis=2) < 12).any()
    assert [word for word in ("axial", "coronal", "sagittal") if word in found.text] == ["axial", "coronal", "sagittal"]


def test_the_nodule_is_in_the_middle_of_its_ring() -> None:
    """In the pictures of the page itself: bright pixels and ring have the same middle within half a voxel."""
    green = np.array(STATUS_COLOURS["accepted"])
    images = pictures(page(reading(DECIDED), scan()))[:3]
    for image, (row_mm, column_mm) in zip(images, ((0.8, 0.8), (2.5, 0.8), (2.5, 0.8)), strict=True):
        ring = np.nonzero(np.abs(image - green).sum(axis=2) < 12)
        rows, columns = np.indices(image.shape[:2])
        middle = (len(image) - 1) / 2
        core = (np.hypot(rows - middle, columns - middle) < 20) & (image.min(axis=2) > 180)
        ball = np.nonzero(core)
        assert abs((ring[0].min() + ring[0].max()) / 2 - ball[0].mean()) * 0.25 <= row_mm / 2
        assert abs((ring[1].min() + ring[1].max()) / 2 - ball[1].mean()) * 0.25 <= column_mm / 2


def test_facts_are_those_of_the_reading() -> None:
    """Model, threshold with its expectation, mode, coverage, counts, reader, flags."""
    volume = scan(flags=(QualityFlag("thick_slices", "Slices are 5 mm apart."),))
    text = page(reading(DECIDED, volume), volume).text
    for part in (
        "Model m",
        "c0ffee",
        "Threshold 0.3 ",
        "Expected at this threshold 1 false mark per scan",
        "Mode concurrent",
        "declared by the reader, with 88% of the slices seen",
        "Reader A. Reader",
        "The scan: Slices are 5 mm apart.",
        "The reader recorded 2 findings: 1 accepted, 1 uncertain.",
        "80 x 80 x 30 voxels of 0.8 x 0.8 x 2.5 mm (x, y, z)",
        "2026-11-22 20:00:00 UTC",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("done", "fault", "sentence"),
    [
        ((), None, "No detector was run on this scan"),
        ((), MemoryError("ZZCANARYZZ"), "The detection failed on this scan"),
        (
            (SetCandidates(marks=(), threshold=0.19, model_name="m", model_sha256="c0"),),
            None,
            "No candidate above 0.19 (model m). This does not mean that there is no nodule.",
        ),
        ((candidates(), SetThreshold(threshold=0.99)), None, "No candidate above 0.99 (model m). This does not mean"),
    ],
    ids=["never run", "failed", "none found", "none above"],
)
def test_empty_readings_are_told_apart(done: tuple[object, ...], fault: Exception | None, sentence: str) -> None:
    """One sentence of its own each, and none of the others."""
    text = page(reading(done, fault=fault), scan()).text  # type: ignore[arg-type]
    others = {"No detector was run", "The detection failed", "No candidate above"} - {sentence[:19], sentence[:20]}
    assert sentence in text
    assert not any(other in text for other in others if not sentence.startswith(other))
    assert ("Reason: MemoryError" in text) == (fault is not None)
    assert ("SHA-256 of the model" in text) == bool(done)


def test_what_a_person_typed_is_shown_and_does_nothing() -> None:
    """Notes with mark-up and quotes appear as typed; no tag comes from them."""
    found = page(reading(actions(("<script>alert(1)</script>", '"><img src=x>'))), scan())
    assert "<script>alert(1)</script>" in found.text
    assert '"><img src=x>' in found.text
    assert "script" not in found.tags
    assert found.tags.count("img") == 3 * 4


def test_the_page_says_which_slices_were_counted() -> None:
    """Those with lung, or all; before and after the search was declared."""
    assert "not declared; 25% of the slices seen so far" in page(reading((), seen_share=0.25)).text
    made = reading((), seen_share=0.25, seen_of_lungs=True)
    assert "not declared; 25% of the slices with lung seen so far" in page(made).text
    made = reading((MarkSearched(share_of_slices=0.5, is_of_lungs=True),))
    assert "declared by the reader, with 50% of the slices with lung seen" in page(made).text


def test_without_pictures_the_page_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """No scan, a mark outside of it, or too many findings."""
    far = (candidates(), AddMark(position_xyz_mm=(900.0, 0.0, 0.0)))
    assert "No pictures: it lies outside the scan." in page(reading(far), scan()).text
    assert "No pictures: the scan was not open." in page(reading(DECIDED)).text
    monkeypatch.setattr(review_report, "MOST_PICTURES", 1)
    found = page(reading(DECIDED), scan())
    assert (found.tags.count("img"), "1 more finding is in the table above" in found.text) == (3, True)


def test_slab_and_window_are_told() -> None:
    """What was asked for, as true thickness and HU."""
    text = page(reading(DECIDED), scan(), slab_mm=10.0, window_hu=(-160.0, 240.0)).text
    assert "-160 to 240 HU" in text
    assert "axial, slice 12, 12.5 mm" in text


def test_pictures_of_another_scan_are_refused() -> None:
    """The voxels decide."""
    with pytest.raises(ReviewError, match="another one than that of the reading"):
        report_html(reading(), Volume(scan().hu + 1, scan().geometry, scan().geometry), ReportOptions())
