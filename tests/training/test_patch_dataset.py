"""Patches for training: a function of seed, epoch and row alone, in the order of a plan that can be continued."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import SettingsError
from napari_alnct.io.patch_store import PatchRow, PatchStore, PatchWriter
from napari_alnct.training.augmentation import AugmentSettings
from napari_alnct.training.batch_augmentation import augment_batch, device_batches
from napari_alnct.training.patch_dataset import BatchPlan, PatchDataset, open_loader

PREPARE = PrepareSettings()
LABELS = [1, 0, 0, 1, 0, 0, 0, 0]  # 2 positives, 6 negatives
BATCHED = AugmentSettings(backend="batched")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PatchStore:
    """Give eight patches of 16 voxels with 4 voxels of margin."""
    folder = tmp_path_factory.mktemp("patches")
    rng = np.random.default_rng(0)
    with PatchWriter(folder, PREPARE, patch_vox=16, margin_vox=4, notes={}) as writer:
        for number, label in enumerate(LABELS):
            hu = ndimage.gaussian_filter(rng.standard_normal((24, 24, 24)), 2) * 4000 - 400
            row = PatchRow(
                series_uid=f"scan {number}",
                label=label,
                kind="nodule" if label else "lung",
                centre_zyx_vox=(40, 40, 40),
                position_xyz_mm=(0.0, 0.0, 0.0),
            )
            writer.add(row, np.clip(hu, PREPARE.low_hu, PREPARE.high_hu).astype(np.int16))
    return PatchStore.open(folder)


def plan_of(**changed: object) -> BatchPlan:
    values = {"epochs": 3, "batch": 4, "neg_ratio": None, "seed": 5} | changed
    return BatchPlan(LABELS, **values)  # type: ignore[arg-type]


def loaded(store: PatchStore, augment: AugmentSettings | None, *, workers: int = 0, **plan: object) -> list[Tensor]:
    loader = open_loader(PatchDataset(store, augment, seed=1), plan_of(**plan), workers=workers, device="cpu")
    return [tensor for batch in device_batches(loader, "cpu") for tensor in batch]


def test_without_changes_the_middle_is_given_exactly(store: PatchStore) -> None:
    """No augmentation, or strength 0, gives the stored voxels without their margin as float16, and the label."""
    for augment in (None, AugmentSettings(strength=0), AugmentSettings(strength=0, backend="batched")):
        hu, label = PatchDataset(store, augment, seed=0)[7, 3]
        assert (hu.dtype, label.dtype, label.shape, float(label)) == (torch.float16, torch.float32, (), 1.0)
        np.testing.assert_array_equal(hu.numpy(), store.cube(3))


def test_an_item_is_a_function_of_seed_epoch_and_row(store: PatchStore) -> None:
    """The same three give the same bits in any order; another one of them gives another patch."""
    dataset = PatchDataset(store, AugmentSettings(affine_probability=1.0), seed=1)
    keys = [(0, 0), (0, 1), (1, 0)]
    forth, back = [dataset[key][0] for key in keys], [dataset[key][0] for key in reversed(keys)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forth, back, strict=True))
    other_seed = PatchDataset(store, dataset.augment, seed=2)[0, 0][0]
    assert not any(torch.equal(a, b) for a, b in pairwise([*forth, other_seed, forth[0]]))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("backend", ["torchio", "batched"])
def test_workers_change_nothing(store: PatchStore, backend: str) -> None:
    """Without, with one and with two processes: the same batches, bit for bit, in the same order."""
    settings = AugmentSettings(backend=backend)  # type: ignore[arg-type]
    alone, one, two = (loaded(store, settings, workers=workers) for workers in (0, 1, 2))
    assert len(alone) == 2 * 6
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(alone, one, two, strict=True))


def test_batched_changes_are_torchio_s(store: PatchStore) -> None:
    """Both backends give the same batches to 1 HU (float16); rims beyond the stored voxels may differ."""
    by_torchio, by_torch = (loaded(store, AugmentSettings(backend=b)) for b in ("torchio", "batched"))  # type: ignore[arg-type]
    for a, b in zip(by_torchio, by_torch, strict=True):
        assert a.shape == b.shape
        assert ((a.float() - b.float()).abs() > 1.0).float().mean() < 0.05
    assert (by_torchio[0][:, 4:12, 4:12, 4:12].float() - by_torch[0][:, 4:12, 4:12, 4:12]).abs().max() <= 1.0


@pytest.mark.gpu
@needs_cuda
def test_batched_changes_on_a_gpu(store: PatchStore) -> None:
    """A GPU makes what the CPU makes, but for the noise, which is its own."""
    stored, keys = torch.from_numpy(np.array(store.hu)), [(0, row) for row in range(len(store))]
    settings, frame = AugmentSettings(noise_probability=0.0, backend="batched"), PatchDataset(store, None, seed=0).frame
    cpu, cuda = (augment_batch(stored.to(device), keys, settings, frame, seed=0).cpu() for device in ("cpu", "cuda"))
    torch.testing.assert_close(cuda, cpu, atol=0.5, rtol=0)


@pytest.mark.parametrize("augment", [None, AugmentSettings(), BATCHED], ids=["none", "torchio", "batched"])
def test_labels_stay_with_their_patches(store: PatchStore, augment: AugmentSettings | None) -> None:
    """Whatever happens to the voxels, the label is that of the row in the plan."""
    labels = loaded(store, augment)[1::2]
    assert [label.tolist() for label in labels] == [[float(LABELS[row]) for _, row in keys] for keys in plan_of()]


def test_a_dataset_travels_to_another_process(store: PatchStore) -> None:
    """A pickled copy, as a spawned process gets it, gives the same patch and is small: voxels stay on disk."""
    dataset = PatchDataset(store, AugmentSettings(), seed=1)
    expected = dataset[2, 3][0]
    packed = pickle.dumps(dataset)
    assert len(packed) < 10_000
    assert torch.equal(pickle.loads(packed)[2, 3][0], expected)  # noqa: S301


def test_memory_is_pinned_for_cuda_alone(store: PatchStore) -> None:
    """Batches for a GPU lie in pinned memory; those for the CPU do not."""
    dataset = PatchDataset(store, None, seed=0)
    pinned = [open_loader(dataset, plan_of(), workers=0, device=device).pin_memory for device in ("cpu", "cuda:1")]
    assert pinned == [False, True]


def rows_of(plan: BatchPlan, epoch: int) -> list[int]:
    return [row for keys in plan for at, row in keys if at == epoch]


def test_without_a_ratio_an_epoch_is_every_patch_once() -> None:
    """Eight rows in two batches of four, in another order each epoch."""
    plan = plan_of()
    assert (plan.steps_per_epoch, plan.n_steps, len(plan)) == (2, 6, 6)
    orders = [rows_of(plan, epoch) for epoch in range(3)]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_the_last_batch_is_filled_from_the_start_of_its_epoch() -> None:
    """Eight rows in batches of three: nine places, the ninth is the first row again."""
    rows = rows_of(plan_of(batch=3), 0)
    assert len(rows) == 9
    assert sorted(rows[:8]) == list(range(8))
    assert rows[8] == rows[0]


def test_a_batch_larger_than_the_table_is_full_too() -> None:
    """Eight rows, a batch of twenty: one step with each row twice or three times."""
    counts = Counter(rows_of(plan_of(batch=20), 0))
    assert sorted(counts.values()) == [2] * 4 + [3] * 4


@pytest.mark.parametrize(("ratio", "n_negatives"), [(1.0, 2), (2.0, 4), (1.5, 3), (0.1, 1)])
def test_a_ratio_balances_each_epoch(ratio: float, n_negatives: int) -> None:
    """Two positives, and ratio times as many of the six negatives, none twice, others in other epochs."""
    plan = plan_of(neg_ratio=ratio, batch=1, epochs=40)
    assert plan.patches_per_epoch == plan.steps_per_epoch == 2 + n_negatives
    epochs = [sorted(rows_of(plan, epoch)) for epoch in range(40)]
    assert all(len(set(rows)) == len(rows) and {0, 3} <= set(rows) for rows in epochs)
    assert {row for rows in epochs for row in rows} == set(range(8))


def test_more_negatives_than_there_are_repeat_evenly() -> None:
    """A ratio of 4 wants eight of six negatives: each once or twice."""
    counts = Counter(rows_of(plan_of(neg_ratio=4.0, batch=10), 0))
    assert (counts[0], counts[3]) == (1, 1)
    assert sorted(counts[row] for row in (1, 2, 4, 5, 6, 7)) == [1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("first_step", [0, 1, 2, 3, 5, 6, 9])
def test_a_plan_goes_on_where_it_stopped(first_step: int) -> None:
    """From step n on, a new plan lists what the whole plan has left."""
    plan = plan_of(first_step=first_step, neg_ratio=2.0)
    rest = list(plan_of(neg_ratio=2.0))[first_step:]
    assert list(plan) == rest
    assert len(plan) == len(rest)
    assert plan.n_steps == 6


def test_processes_share_each_batch() -> None:
    """The parts of two processes, put together place by place, are the batches of one."""
    first, second = (list(plan_of(rank=rank, world=2)) for rank in (0, 1))
    joined = [[key for pair in zip(a, b, strict=True) for key in pair] for a, b in zip(first, second, strict=True)]
    assert joined == list(plan_of())


def test_the_seed_decides_the_order() -> None:
    """The same seed gives the same plan, another seed another one."""
    assert list(plan_of()) == list(plan_of())
    assert list(plan_of()) != list(plan_of(seed=6))


@pytest.mark.parametrize(
    ("labels", "values", "message"),
    [
        ([], {}, "table of patches is empty"),
        ([0, 0], {"neg_ratio": 1.0}, "neg_ratio is 1.0 with 0 positive and 2 negative"),
        ([1, 1], {"neg_ratio": 1.0}, "2 positive and 0 negative"),
        ([0, 1], {"neg_ratio": 0.0}, "a ratio above 0"),
        ([0, 1], {"batch": 3, "world": 2}, "batch is 3 for 2 processes; choose a multiple of 2"),
        ([0, 1], {"batch": 0}, "batch is 0"),
    ],
    ids=["empty", "no positives", "no negatives", "no ratio", "uneven", "no batch"],
)
def test_plans_that_cannot_be_are_refused(labels: list[int], values: dict[str, object], message: str) -> None:
    """What cannot be drawn or shared is refused with the figures found."""
    with pytest.raises(SettingsError, match=message):
        BatchPlan(labels, **({"epochs": 1, "batch": 2, "neg_ratio": None, "seed": 0} | values))  # type: ignore[arg-type]


def test_a_folding_deformation_is_refused_when_the_dataset_is_made(store: PatchStore) -> None:
    """24 stored voxels bear up to 3 mm."""
    with pytest.raises(SettingsError, match="up to 3 before they fold"):
        PatchDataset(store, AugmentSettings(elastic_probability=0.5), seed=0)
