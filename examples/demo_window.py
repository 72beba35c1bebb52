"""A scan with its marks in napari: `python examples/demo_window.py SCAN TABLE... [--screenshot FILE]`.

The same by hand: open the scan and the tables through File > Open, and
Plugins > ALNCT lung nodules > Detect nodules.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import napari
from napari.utils.notifications import notification_manager

from napari_alnct.io.tables import read_candidates
from napari_alnct.plugin._viewport import jump_to

PLUGIN = "napari-alnct"


def main() -> None:
    """Open the window; photograph it when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scan", type=Path)
    parser.add_argument("tables", type=Path, nargs="*", help="candidates.csv first, then annotations")
    parser.add_argument("--screenshot", type=Path)
    options = parser.parse_args()

    viewer = napari.Viewer(title="napari-alnct")
    viewer.window.resize(1400, 900)
    viewer.window.add_plugin_dock_widget(PLUGIN, "Detect nodules")
    viewer.open(options.scan, plugin=PLUGIN)
    marks = [candidate for _, candidate in read_candidates(options.tables[0])] if options.tables else []
    for number, table in enumerate(options.tables):
        if number or marks:
            viewer.open(table, plugin=PLUGIN)
    if marks:
        jump_to(viewer, marks[0].position_xyz_mm)
    if options.screenshot is None:
        napari.run()
        return
    notification_manager.records.clear()
    viewer.screenshot(options.screenshot, canvas_only=False, flash=False)
    viewer.close()


if __name__ == "__main__":
    main()
