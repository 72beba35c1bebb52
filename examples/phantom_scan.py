"""Make a synthetic chest CT, list its nodules and draw the slice through the largest one.

Run: ``python examples/phantom_scan.py [OUT.png]`` (about three seconds)
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from napari_alnct.data.phantom import make_phantom, small_settings

LUNG_WINDOW_HU = (-1350, 150)


def run(out: Path) -> None:
    scan = make_phantom(small_settings(seed=7))
    print(f"{scan.volume.series_uid}: {scan.volume.hu.shape} voxels (z, y, x)")
    for nodule, contact in zip(scan.nodules, scan.contact, strict=True):
        x, y, z = nodule.position_xyz_mm
        print(f"{nodule.diameter_mm:5.1f} mm at ({x:7.1f}, {y:7.1f}, {z:7.1f}) mm LPS, {nodule.kind}, {contact}")

    index_z, index_y, index_x = scan.volume.geometry.world_to_index(scan.nodules[0].position_xyz_mm)
    figure = Figure(figsize=(5, 5), layout="tight")
    axes = figure.subplots()
    axes.imshow(scan.volume.hu[int(np.rint(index_z))], cmap="gray", vmin=LUNG_WINDOW_HU[0], vmax=LUNG_WINDOW_HU[1])
    axes.plot(index_x, index_y, "o", markersize=26, markerfacecolor="none", markeredgecolor="yellow")
    axes.set_axis_off()
    figure.savefig(out)
    print(f"Slice through the largest nodule: {out}")


if __name__ == "__main__":
    run(Path(sys.argv[1] if len(sys.argv) > 1 else "phantom_scan.png"))
