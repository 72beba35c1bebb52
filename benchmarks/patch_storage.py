"""How fast patches are read back at random: one mapped array against other ways to store them.

    python benchmarks/patch_storage.py [--patches 300] [--folder DIR] [--out benchmarks/results/patch_storage.json]

Patches of 80 x 80 x 80 voxels (int16 HU) are cut from a phantom scan prepared at 1 mm and stored in each
way; then 64 x 64 x 64 voxels of each are read once in random order, moved by a random shift, as training
reads them. Formats: `patches.npy`, the one array of `sample` through `PatchStore.cube`; one .npy a patch,
read whole and mapped; one .npz a patch, compressed; zarr (where it is installed), one chunk a patch, with its
own default compression. *Cold*: the system was asked to drop the files from its page cache
(posix_fadvise DONTNEED; a cache below it, such as that of a virtual machine's host, stays). *Warm*: read
once before. One process, one thread; wall and CPU time, as other work may run beside.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

PATCH_VOX, MARGIN_VOX = 64, 8
STORED_VOX = PATCH_VOX + 2 * MARGIN_VOX
Shift = tuple[int, int, int]
Read = Callable[[int, Shift], NDArray[np.int16]]


def make_cubes(n: int) -> NDArray[np.int16]:
    """Cut patches at random lung voxels of a phantom: noise and structure compress as those of a scan do."""
    from napari_alnct.core.config import PrepareSettings
    from napari_alnct.core.preprocess import prepare
    from napari_alnct.data.phantom import make_phantom, small_settings
    from napari_alnct.io.patch_store import cube_around

    scan = prepare(make_phantom(small_settings(seed=1)).volume, PrepareSettings())
    voxels = np.argwhere(scan.lungs.on_grid(scan.geometry))
    rng = np.random.default_rng(0)
    chosen = voxels[rng.choice(len(voxels), n, replace=False)]
    return np.stack([cube_around(scan.hu, voxel.tolist(), STORED_VOX, -1200) for voxel in chosen])


def cut(cube: NDArray[np.int16], shift: Shift) -> NDArray[np.int16]:
    """Take the patch out of a cube with its margin."""
    z, y, x = (slice(MARGIN_VOX + s, MARGIN_VOX + s + PATCH_VOX) for s in shift)
    return np.array(cube[z, y, x])


def store_mapped(folder: Path, cubes: NDArray[np.int16]) -> Callable[[], Read]:
    from napari_alnct.core.config import PrepareSettings
    from napari_alnct.io.patch_store import PatchRow, PatchStore, PatchWriter

    row = PatchRow(series_uid="1", label=0, kind="lung", centre_zyx_vox=(0, 0, 0), position_xyz_mm=(0.0, 0.0, 0.0))
    with PatchWriter(folder, PrepareSettings(), patch_vox=PATCH_VOX, margin_vox=MARGIN_VOX, notes={}) as writer:
        for cube in cubes:
            writer.add(row, cube)
    return lambda: PatchStore.open(folder).cube


def store_npy(folder: Path, cubes: NDArray[np.int16]) -> Callable[[], Read]:
    for n, cube in enumerate(cubes):
        np.save(folder / f"{n}.npy", cube)
    return lambda: lambda n, shift: cut(np.load(folder / f"{n}.npy"), shift)


def store_npy_mapped(folder: Path, cubes: NDArray[np.int16]) -> Callable[[], Read]:
    store_npy(folder, cubes)
    return lambda: lambda n, shift: cut(np.load(folder / f"{n}.npy", mmap_mode="r"), shift)


def store_npz(folder: Path, cubes: NDArray[np.int16]) -> Callable[[], Read]:
    for n, cube in enumerate(cubes):
        np.savez_compressed(folder / f"{n}.npz", hu=cube)

    def read(n: int, shift: Shift) -> NDArray[np.int16]:
        with np.load(folder / f"{n}.npz") as file:
            return cut(file["hu"], shift)

    return lambda: read


def store_zarr(folder: Path, cubes: NDArray[np.int16]) -> Callable[[], Read]:
    import zarr

    array = zarr.create_array(
        str(folder / "a.zarr"), shape=cubes.shape, dtype=cubes.dtype, chunks=(1, *cubes.shape[1:])
    )
    array[:] = cubes

    def opened() -> Read:
        mapped = zarr.open_array(str(folder / "a.zarr"), mode="r")
        return lambda n, shift: cut(mapped[n], shift)

    return opened


FORMATS: dict[str, Callable[[Path, NDArray[np.int16]], Callable[[], Read]]] = {
    "one mapped .npy (PatchStore)": store_mapped,
    "one .npy a patch": store_npy,
    "one .npy a patch, mapped": store_npy_mapped,
    "one .npz a patch, compressed": store_npz,
    "zarr, one chunk a patch": store_zarr,
}


def version_of(package: str) -> str | None:
    """Give the version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def drop_from_cache(folder: Path) -> None:
    """Ask the system to forget the files' pages."""
    for path in (p for p in folder.rglob("*") if p.is_file()):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed_reads(opened: Callable[[], Read], cubes: NDArray[np.int16]) -> dict[str, float]:
    """Read every patch once in random order; every tenth is compared with what was stored."""
    rng = np.random.default_rng(1)
    order, shifts = rng.permutation(len(cubes)), rng.integers(-MARGIN_VOX, MARGIN_VOX + 1, (len(cubes), 3))
    total = 0
    wall, cpu = perf_counter(), process_time()
    read = opened()
    for n in order:
        total += int(read(int(n), tuple(shifts[n].tolist()))[0, 0, 0])
    wall, cpu = perf_counter() - wall, process_time() - cpu
    for n in order[::10]:
        shift = tuple(shifts[n].tolist())
        if not np.array_equal(read(int(n), shift), cut(cubes[n], shift)):
            raise RuntimeError(f"patch {n} came back changed")
    return {"reads_per_s": round(len(cubes) / wall, 1), "cpu_ms_per_read": round(1000 * cpu / len(cubes), 2)}


def measure(name: str, folder: Path, cubes: NDArray[np.int16], runs: int) -> dict[str, Any]:
    """Store in one way, then read cold and warm; the fastest of the runs by wall time."""
    folder.mkdir()
    began = perf_counter()
    opened = FORMATS[name](folder, cubes)
    seconds = perf_counter() - began
    cold, warm = [], []
    for _ in range(runs):
        drop_from_cache(folder)
        cold.append(timed_reads(opened, cubes))
        warm.append(timed_reads(opened, cubes))
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return {
        "mb_per_patch": round(size / len(cubes) / 1e6, 3),
        "written_per_s": round(len(cubes) / seconds, 1),
        "cold": max(cold, key=lambda r: r["reads_per_s"]),
        "warm": max(warm, key=lambda r: r["reads_per_s"]),
    }


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, default=300)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="disk to measure; default: that of temporary files")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/patch_storage.json"))
    options = parser.parse_args()
    if not hasattr(os, "posix_fadvise"):
        parser.error("this system has no posix_fadvise, so cold reads cannot be measured here")
    cubes = make_cubes(options.patches)
    figures: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, {platform.system()}",
        "load_1_min": round(os.getloadavg()[0], 1),
        "patches": len(cubes),
        "stored_vox": STORED_VOX,
        "read_vox": PATCH_VOX,
        "zarr": version_of("zarr"),
        "cold_means": "dropped from the system's page cache; caches below it stay",
        "formats": {},
    }
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        for number, name in enumerate(FORMATS):
            try:
                figures["formats"][name] = measure(name, Path(place) / str(number), cubes, options.runs)
            except ImportError as missing:
                figures["formats"][name] = f"not measured: {missing.name} is not installed"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    run()
