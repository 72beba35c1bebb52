"""Blocks cover the volume once, with their margins."""

from __future__ import annotations

import numpy as np
import pytest

from napari_alnct.core.patches import plan_blocks


@pytest.mark.parametrize("most_voxels", [10**9, 200_000, 60_000, 1], ids=str)
def test_cores_tile_the_volume_exactly_once(most_voxels: int) -> None:
    """Every voxel is in exactly one core, and every core lies inside what is read."""
    shape = (64, 96, 80)
    count = np.zeros(shape, int)
    for block in plan_blocks(shape, most_voxels=most_voxels, margin=10, multiple=16):
        assert all(s <= a < b <= e for s, a, b, e in zip(*_corners(block), strict=True))
        assert all(v % 16 == 0 for corner in _corners(block) for v in corner)
        count[tuple(slice(a, b) for a, b in zip(block.core_start, block.core_stop, strict=True))] += 1
    assert (count == 1).all()


def test_blocks_respect_the_size_where_they_can() -> None:
    """No block that is read exceeds the limit."""
    blocks = plan_blocks((160, 160, 160), most_voxels=500_000, margin=16, multiple=16)
    sizes = [np.prod(np.subtract(b.stop, b.start)) for b in blocks]
    assert len(blocks) > 1
    assert max(sizes) <= 500_000


def test_margins_reach_into_the_neighbours() -> None:
    """An inner block reads at least the margin on each side of its core."""
    blocks = plan_blocks((160, 32, 32), most_voxels=32 * 32 * 80, margin=17, multiple=16)
    inner = next(b for b in blocks if b.core_start[0] > 32 and b.core_stop[0] < 128)
    assert inner.core_start[0] - inner.start[0] >= 17
    assert inner.stop[0] - inner.core_stop[0] >= 17


def _corners(block: object) -> tuple[tuple[int, ...], ...]:
    return block.start, block.core_start, block.core_stop, block.stop  # type: ignore[attr-defined]
