"""The dense first stage: blocks, peaks, memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_alnct.core import dense
from napari_alnct.core.dense import find_peaks, score_map
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.inference import Runner
from tests.core.tiny_models import PREPARE, tiny_detector

CPU = torch.device("cpu")


def scan(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 400, shape).astype(np.int16)


@pytest.fixture(scope="module")
def runner() -> Runner:
    return Runner(tiny_detector(), CPU, torch.float32)


def test_blocks_give_the_map_of_the_whole(runner: Runner) -> None:
    """No seam: every cell of the block-wise map equals the whole volume's to rounding."""
    hu = scan((250, 30, 27))
    whole = score_map(runner, hu, PREPARE, most_voxels=10**9)
    parts = score_map(runner, hu, PREPARE, most_voxels=int(whole[0].numel() * 64 * 0.9))
    assert whole.shape == (5, 64, 8, 8)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("passes", "axis"), [(1, 2), (2, 1), (3, 0)])
def test_mirrored_passes_do_not_care_which_way_the_scan_lies(runner: Runner, passes: int, axis: int) -> None:
    """Mean of both ways: a scan and its mirror image agree in logits, sizes, and offsets with their sign."""
    hu, shares = scan((32, 48, 64)), list[float]()
    hu[8:16, 8:16, 8:16] = 300

    def both_ways(voxels: np.ndarray) -> torch.Tensor:
        """Give the mean over this one axis alone."""
        most = {"most_voxels": 10**9}
        with_axis = score_map(runner, voxels, PREPARE, mirrored_passes=passes, step=shares.append, **most)
        without = score_map(runner, voxels, PREPARE, mirrored_passes=passes - 1, **most)
        one_way = score_map(runner, voxels, PREPARE, **most)
        return (with_axis * (passes + 1) - without * passes + one_way) / 2

    there, back = both_ways(hu), both_ways(np.ascontiguousarray(np.flip(hu, axis))).flip(axis + 1)
    back[1 + axis] *= -1
    torch.testing.assert_close(back, there, rtol=1e-4, atol=1e-4)
    one_way = score_map(runner, np.ascontiguousarray(np.flip(hu, axis)), PREPARE, most_voxels=10**9).flip(axis + 1)
    assert not torch.allclose(one_way[0], there[0], atol=1e-3)
    assert shares == sorted(shares[: len(shares) // 2]) + sorted(shares[len(shares) // 2 :])
    assert 0 <= min(shares) <= max(shares) < 1


def test_mirrored_passes_of_an_odd_scan_lie_on_the_same_cells(runner: Runner) -> None:
    """A ball that is not in the middle of a scan of odd size is where it was."""
    hu = np.full((37, 41, 53), -900, np.int16)
    whole = score_map(runner, hu, PREPARE, most_voxels=10**9, mirrored_passes=3)
    assert whole.shape == score_map(runner, hu, PREPARE, most_voxels=10**9).shape


def cpu_memory_fault() -> RuntimeError:
    """Give the error that torch itself raises on this system when the CPU's memory is short."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize("where", ["gpu", "cpu"])
def test_running_out_of_memory_takes_smaller_blocks(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """When the whole does not fit, blocks are tried and the map is the same."""
    fault = torch.OutOfMemoryError("injected") if where == "gpu" else cpu_memory_fault()
    monkeypatch.setattr(dense, "SMALLEST_BLOCK_VOX", 100_000)
    hu = scan((600, 32, 32))
    whole = score_map(runner, hu, PREPARE, most_voxels=10**9)
    sizes = []
    run = runner.run

    def limited(x: torch.Tensor, pulse: object = None) -> torch.Tensor:
        sizes.append(x.numel())
        if x.numel() > 400_000:
            raise fault
        return run(x)

    monkeypatch.setattr(runner, "run", limited)
    torch.testing.assert_close(score_map(runner, hu, PREPARE, most_voxels=10**9), whole, rtol=1e-4, atol=1e-4)
    assert sizes[0] > 400_000 > sizes[-1]


def test_memory_that_never_suffices_is_an_error(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop of halving ends."""

    def never(x: torch.Tensor, pulse: object = None) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr(runner, "run", never)
    with pytest.raises(MemoryError):
        score_map(runner, scan((32, 32, 32)), PREPARE, most_voxels=10**9)


def test_a_fault_that_is_not_about_memory_is_not_tried_again(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller blocks would only hide it."""
    tried = []

    def broken(x: torch.Tensor, pulse: object = None) -> torch.Tensor:
        tried.append(x.numel())
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr(dense, "SMALLEST_BLOCK_VOX", 1000)
    monkeypatch.setattr(runner, "run", broken)
    with pytest.raises(RuntimeError, match="device-side"):
        score_map(runner, scan((32, 32, 32)), PREPARE, most_voxels=10**9)
    assert len(tried) == 1


def test_the_share_done_rises_to_almost_one(runner: Runner) -> None:
    """One call before each convolution, from 0 upwards."""
    shares: list[float] = []
    score_map(runner, scan((32, 32, 32)), PREPARE, most_voxels=10**9, step=shares.append)
    assert len(shares) == runner.n_pulses
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert 0.8 < shares[-1] < 1


def test_a_step_that_raises_stops_and_leaves_no_hooks(runner: Runner) -> None:
    """Cancel acts in the middle of the network; the network is clean afterwards."""

    def stop(share: float) -> None:
        if share > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_map(runner, scan((32, 32, 32)), PREPARE, most_voxels=10**9, step=stop)
    assert not any(m._forward_pre_hooks for m in runner.network.modules())


def test_a_peak_is_placed_by_cell_centre_and_offset() -> None:
    """Cell (2, 3, 4), offset (.25, -.5, 0) cells at 1 mm: voxel (10.5, 11.5, 17.5), world in x, y, z order."""
    cells = torch.full((5, 6, 6, 6), 0.0)
    cells[0] = -20.0
    cells[:, 2, 3, 4] = torch.tensor([3.0, 0.25, -0.5, 0.0, np.log(10 / 6.4)])
    geometry = Geometry(shape_zyx=(24, 24, 24), spacing_zyx_mm=(1, 1, 1), origin_xyz_mm=(100.0, 200.0, 300.0))
    peaks = find_peaks(cells, geometry)
    np.testing.assert_allclose(peaks.positions_xyz_mm, [[117.5, 211.5, 310.5]])
    np.testing.assert_allclose(peaks.diameters_mm, [10.0], rtol=1e-6)
    assert peaks.logits.tolist() == [3.0]


def test_peaks_are_local_maxima_strongest_first() -> None:
    """Neighbours of a peak are not peaks; the number is bounded."""
    torch.manual_seed(0)
    cells = torch.zeros(5, 30, 30, 30)
    cells[0] = torch.randn(30, 30, 30)
    peaks = find_peaks(cells, Geometry(shape_zyx=(120, 120, 120), spacing_zyx_mm=(1, 1, 1)))
    assert len(peaks.logits) <= dense.MOST_PEAKS
    assert (np.diff(peaks.logits) <= 0).all()
    cell = np.rint((peaks.positions_xyz_mm - 1.5) / 4)
    gaps = np.abs(cell[:, None] - cell[None]).max(axis=2) + 9 * np.eye(len(cell))
    assert gaps.min() >= 2
