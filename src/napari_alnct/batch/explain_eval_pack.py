"""Held-out nodules of the development data pack, put into held-out scans, to judge explanations on.

What was held out is what the model file says. The outline of an inserted nodule is that of the reader,
turned and scaled with it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_alnct.batch.explain_eval_cases import EvalScan, nodules_of
from napari_alnct.core.checkpoint import Recipe
from napari_alnct.core.errors import ModelError
from napari_alnct.training.donor_drawing import draw_donor
from napari_alnct.training.insertion import Donor, transform_donor
from napari_alnct.training.marks import insert_donors
from napari_alnct.training.placement import Placed
from napari_alnct.training.settings import BuildSettings
from napari_alnct.training.sources import cube_names, load_pack_cases, load_pack_donors, pack_case_names

N_INSERTED = 10  # tried per scan
SEED = 9000
RIM_VOX = 1  # by which donors' outlines were grown when they were cut
OUTLINE = 0.5


@dataclass(frozen=True, kw_only=True)
class PackSource:
    """Held-out nodules in held-out scans of the data pack.

    Parameters
    ----------
    pack : Path
        Folder of the data pack.
    cases, cubes : tuple of str
        Held-out scans and nodules.
    ceiling_hu : float
        Upper end of the model's window.
    n_turns : int
        How often nodules are put into each scan.
    """

    pack: Path
    cases: tuple[str, ...]
    cubes: tuple[str, ...]
    ceiling_hu: float
    n_turns: int = 3

    @classmethod
    def of(cls, pack: Path, recipe: Recipe, *, n_turns: int = 3) -> PackSource:
        """Give the source of what a model says that it held out.

        Parameters
        ----------
        pack : Path
            Folder of the data pack.
        recipe : Recipe
            Of the model.
        n_turns : int
            How often nodules are put into each scan.

        Returns
        -------
        PackSource

        Raises
        ------
        ModelError
            If it held out no scan or no nodule of the pack.
        """
        facts = recipe.training
        cases = tuple(sorted(set(pack_case_names(pack)) & set(facts.get("held_out_cases", ()))))
        cubes = tuple(sorted(set(cube_names(pack)) & set(facts.get("held_out_donors", ()))))
        if not cases or not cubes:
            raise ModelError(
                f"{recipe.name}: held out {len(cases)} scans and {len(cubes)} nodules of the data pack; "
                "name the model of a fold (make model-folds), or leave out --data"
            )
        return cls(pack=pack, cases=cases, cubes=cubes, ceiling_hu=recipe.prepare.high_hu, n_turns=n_turns)

    @property
    def names(self) -> tuple[str, ...]:
        """Give the names of the scans: each with a turn of its own."""
        return tuple(f"{case} turn {turn}" for case in self.cases for turn in range(1, self.n_turns + 1))

    @property
    def description(self) -> str:
        """Give one sentence on what is judged."""
        return (
            f"{len(self.cubes)} nodules of LIDC-IDRI that the model never saw, put into {len(self.cases)} scans that "
            f"it never saw ({self.n_turns} times each); masks are one radiologist's outlines."
        )

    @property
    def identity(self) -> dict[str, Any]:
        """Give what the scans depend on."""
        return {"source": "data pack", "cases": list(self.cases), "cubes": list(self.cubes)}

    def load(self, name: str) -> EvalScan:
        """Give one scan with nodules put into it; the scan's own nodules are kept clear of and not judged."""
        case_name, _, turn = name.rpartition(" turn ")
        (case,) = load_pack_cases(self.pack, leave_out=set(pack_case_names(self.pack)) - {case_name})
        kept_out = set(cube_names(self.pack)) - set(self.cubes)
        donors = load_pack_donors(self.pack, ceiling_hu=self.ceiling_hu, leave_out=kept_out)
        drawn: list[Donor] = []

        def draw(of: Sequence[Donor], rng: np.random.Generator) -> tuple[Donor, float]:
            donor, scale = draw_donor(of, rng)
            drawn.append(transform_donor(donor, scale, copy.deepcopy(rng)))  # as `place_donors` will turn it
            return donor, scale

        seed = SEED + 100 * self.cases.index(case_name) + int(turn)
        host, placed = insert_donors(case, donors, N_INSERTED, BuildSettings().crops.round_hu, seed, draw=draw)
        labels = outlines(drawn, placed, host.hu.shape)
        kinds = {k + 1: "inserted" for k in range(len(placed.names))}
        nodules = tuple(nodules_of(labels, host.geometry, kinds))
        return EvalScan(name=case_name, hu=host.hu, geometry=host.geometry, labels=labels, nodules=nodules)


def outlines(drawn: Sequence[Donor], placed: Placed, shape: tuple[int, ...]) -> NDArray[np.int16]:
    """Give the outlines of placed donors as labels.

    Parameters
    ----------
    drawn : sequence of Donor
        All that were tried, in order; those that found no place are skipped.
    placed : Placed
        Those that did.
    shape : tuple of int
        Of the scan.

    Returns
    -------
    ndarray of int16
        i inside the i-th placed donor, from 1.
    """
    labels, tried = np.zeros(shape, np.int16), iter(drawn)
    for number, (centre, name, diameter) in enumerate(
        zip(placed.centres_zyx_vox, placed.names, placed.diameters_mm, strict=True), start=1
    ):
        donor = next(one for one in tried if one.name == name and np.isclose(one.diameter_mm, diameter))
        solid = donor.outline > OUTLINE
        inner = ndimage.binary_erosion(solid, iterations=RIM_VOX)
        voxels = np.argwhere(inner if inner.any() else solid) + centre.astype(int) - donor.centre_zyx_vox.astype(int)
        voxels = voxels[np.all((voxels >= 0) & (voxels < shape), axis=1)]
        labels[tuple(voxels.T)] = number
    return labels
