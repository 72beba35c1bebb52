"""The networks: shapes, alignment of cells, locality."""

from __future__ import annotations

import pytest
import torch

from napari_alnct.core.config import ClassifierNetSettings, DetectorNetSettings
from napari_alnct.core.inference import folded
from napari_alnct.core.network import (
    ClassifierNetwork,
    DetectorNetwork,
    cell_centre,
    n_parameters,
    receptive_radius_vox,
    scale_hu,
)

SMALL = DetectorNetSettings(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), head_width=8)


def seeded(settings: DetectorNetSettings) -> DetectorNetwork:
    torch.manual_seed(0)
    network = DetectorNetwork(settings)
    for module in network.modules():  # running statistics as after some training
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def test_output_has_one_cell_per_four_voxels() -> None:
    """Five numbers per cell, also for a shape with three different sizes."""
    with torch.inference_mode():
        assert seeded(SMALL)(torch.zeros(2, 1, 32, 48, 64)).shape == (2, 5, 8, 12, 16)


@pytest.mark.parametrize("norm", ["batch", "group", "instance"])
def test_classifier_gives_one_logit_per_patch(norm: str) -> None:
    """Every normalisation builds and runs."""
    network = ClassifierNetwork(ClassifierNetSettings(norm=norm, feat_mult=0.5))  # type: ignore[arg-type]
    with torch.inference_mode():
        assert network.eval()(torch.zeros(3, 1, 64, 64, 64)).shape == (3,)


def test_feat_mult_changes_the_size() -> None:
    """Twice the channels is about four times the parameters."""
    sizes = [n_parameters(ClassifierNetwork(ClassifierNetSettings(feat_mult=m))) for m in (1.0, 2.0)]
    assert 3.5 < sizes[1] / sizes[0] < 4.5


def test_cells_are_where_cell_centre_says() -> None:
    """With weights that only average, the response to a blob has its centroid at the blob, to 0.1 voxel."""
    network = seeded(SMALL)
    encoder = network.encoder
    blob_at = torch.tensor([61.0, 66.0, 62.5])
    axis = torch.arange(128.0)
    grids = torch.meshgrid(axis, axis, axis, indexing="ij")
    blob = torch.exp(-sum((g - c) ** 2 for g, c in zip(grids, blob_at, strict=True)) / (2 * 10.0**2))
    x = blob[None, None]
    for depth, stage in enumerate(encoder.stages, start=1):
        kernel = stage.down[0]
        size = kernel.kernel_size[0]
        weight = torch.full((1, 1, size, size, size), 1.0 / size**3)
        x = torch.nn.functional.conv3d(x, weight, stride=kernel.stride, padding=kernel.padding)
        centres = cell_centre(torch.arange(x.shape[2]), stride=2**depth)
        total = x.sum()
        for k in range(3):
            profile = x[0, 0].sum(dim=[d for d in range(3) if d != k])
            assert float((profile * centres).sum() / total) == pytest.approx(float(blob_at[k]), abs=0.1)


def test_a_voxel_outside_the_receptive_radius_changes_nothing() -> None:
    """Far input leaves a cell bit-identical; near input does not."""
    network, radius = seeded(SMALL), receptive_radius_vox(SMALL)
    edge = 16 * ((2 * radius + 48) // 16)
    x = torch.randn(1, 1, 32, 32, edge)
    centre = float(cell_centre(torch.tensor(4)))
    far = x.clone()
    far[..., int(centre) + radius + 1 :] += 5.0
    near = x.clone()
    near[..., int(centre) + 1] += 5.0
    with torch.inference_mode():
        base, other, changed = (network(v)[0, :, 4, 4, 4] for v in (x, far, near))
    torch.testing.assert_close(base, other, rtol=0, atol=1e-6)
    assert not torch.allclose(base, changed)


def test_folding_normalisation_changes_nothing_but_rounding() -> None:
    """The folded copy answers the same; the original keeps its layers."""
    network, x = seeded(SMALL), torch.randn(1, 1, 32, 32, 32)
    quick = folded(network)
    with torch.inference_mode():
        torch.testing.assert_close(quick(x), network(x), rtol=1e-4, atol=1e-4)
    assert any(isinstance(m, torch.nn.BatchNorm3d) for m in network.modules())
    assert not any(isinstance(m, torch.nn.BatchNorm3d) for m in quick.modules())


def test_scale_hu_clips_to_the_window() -> None:
    """Sentinels such as -3024 become the window's lower end."""
    assert scale_hu(torch.tensor([-3024, -1000, 400, 3000]), -1000.0, 400.0).tolist() == [-1.0, -1.0, 1.0, 1.0]
