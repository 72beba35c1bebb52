"""A small result to report on: three scans with known nodules and marks, scored by hand."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from napari_alnct.core.geometry import Geometry
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.metaimage import write_metaimage

HEADER = "seriesuid,coordX,coordY,coordZ,"
SHAPE, SPACING = (30, 60, 60), (2.0, 1.0, 1.0)
HOSTILE = '<script>alert(1)</script>"><img src=http://x.test/a onerror=alert(2)>'


def write_scan(path: Path, *balls: tuple[float, float, float]) -> None:
    """Write a scan of lung with bright balls of 6 mm, all else at -850 HU, and a wall of tissue."""
    grid = Geometry(shape_zyx=SHAPE, spacing_zyx_mm=SPACING)
    hu = np.full(SHAPE, -850, np.int16)
    hu[:, :6] = 40
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    world = grid.index_to_world(index.reshape(-1, 3)).reshape(*SHAPE, 3)
    for ball in balls:
        hu[((world - ball) ** 2).sum(axis=-1) <= 9] = 60
    write_metaimage(path, hu, grid)


def write_case(folder: Path, *, first: str = "a") -> Path:
    """Write scans ``a`` (a hit, a false positive), ``b`` (a miss, a mark on an excluded finding) and ``c`` (nothing).

    One of two nodules found, one false positive, one mark ignored; `first` is the series of the first scan.
    """
    scans = folder / "scans"
    scans.mkdir(parents=True)
    for name in ("a", "b", "c"):
        write_scan(scans / f"{name}.mhd", (30.0, 30.0, 30.0))
    if first != "a":  # a name that no file could have: the scan is not at hand
        for path in scans.glob("a.*"):
            path.unlink()
    quoted = '"' + first.replace('"', '""') + '"'
    marks = f"{quoted},31,30,30,0.9,7\n{quoted},40,20,20,0.8,5\nb,12,40,40,0.7,6\n"
    (folder / "marks.csv").write_text(f"{HEADER}probability,diameter_mm\n{marks}")
    (folder / "nodules.csv").write_text(f"{HEADER}diameter_mm\n{quoted},30,30,30,6\nb,30,30,30,6\n")
    (folder / "excluded.csv").write_text(f"{HEADER}diameter_mm\nb,12,41,40,-1\n")
    (folder / "scans.csv").write_text(f"{quoted}\nb\nc\n")
    return folder


def write_record(folder: Path, *, done: tuple[str, ...], failed: dict[str, str]) -> None:
    """Write the record of the detection run beside ``marks.csv``; `failed`: file name to code."""
    scans = [{"status": "done", "series_sha256": short_hash(series)} for series in done]
    scans += [{"status": "failed", "file_sha256": short_hash(name), "code": code} for name, code in failed.items()]
    (folder / "marks.run.json").write_text(json.dumps({"scans": scans, "holds_all_candidates": True}))


class Page(HTMLParser):
    """What a page holds: its tags, addresses and attributes, and the text that is read."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                self.addresses.append(value or "")

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["style"]:
            self.words.append(data)
