"""How patches are chosen: the settings of ``sample``, light enough to make its flags from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from napari_alnct.core.config import check_bounds
from napari_alnct.core.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """Which places of prepared scans become patches, and how large these are."""

    neg_ratio: Annotated[float, {"min": 0.0, "max": 1000.0, "label": "Negatives per positive"}] = 1.0
    """Negatives for each positive patch, the same number from every scan, with or without nodules."""
    per_nodule: Annotated[int, {"min": 1, "max": 100, "label": "Patches per nodule"}] = 3
    """Patches of each nodule; the first is centred on it, the others are jittered."""
    jitter_mm: Annotated[float, {"min": 0.0, "max": 20.0, "label": "Jitter (mm)"}] = 3.0
    """Farthest that a jittered patch is centred from the middle of its nodule."""
    hard_share: Annotated[float, {"min": 0.0, "max": 1.0, "label": "Share of hard negatives"}] = 0.5
    """Share of the negatives taken from candidates or mined, where either is given."""
    vessel_share: Annotated[float, {"min": 0.0, "max": 1.0, "label": "Share of vessels"}] = 0.5
    """Share of vessels among the other negatives; the rest is random lung."""
    clearance_mm: Annotated[float, {"min": 0.0, "max": 100.0, "label": "Clearance of nodules (mm)"}] = 8.0
    """Least distance from the rim of every nodule to the centre of a negative."""
    patch_vox: Annotated[int, {"min": 16, "max": 160, "label": "Patch edge (voxels)"}] = 64
    """Edge of a patch, voxels of the prepared scans."""
    margin_vox: Annotated[int, {"min": 0, "max": 64, "label": "Stored margin (voxels)"}] = 8
    """Voxels stored on each side of a patch, for shifts and rotations during training."""
    seed: Annotated[int, {"min": 0, "max": 2**32 - 1, "label": "Seed"}] = 0
    """Same seed, same patches, in whatever order and with however many jobs scans are read."""

    def __post_init__(self) -> None:
        """Check the bounds, and that positives and negatives cannot be the same place."""
        check_bounds(self)
        if self.patch_vox % 2:
            raise SettingsError(f"patch_vox is {self.patch_vox}, allowed are even numbers; choose one")
        if self.jitter_mm > self.clearance_mm and self.per_nodule > 1:
            raise SettingsError(
                f"jitter_mm is {self.jitter_mm:g}, allowed is at most clearance_mm ({self.clearance_mm:g}), or a patch "
                "of a nodule could lie where a negative may; choose a smaller jitter or a larger clearance"
            )

    @property
    def stored_vox(self) -> int:
        """Give the edge of a patch with its margin, voxels."""
        return self.patch_vox + 2 * self.margin_vox

    def check_spacing(self, spacing_mm: float) -> None:
        """Refuse a jitter that could lead a nodule out of its patch.

        Parameters
        ----------
        spacing_mm : float
            Of the prepared scans.

        Raises
        ------
        SettingsError
            If the jitter reaches the edge of the patch.
        """
        most_mm = (self.patch_vox // 2 - 1) * spacing_mm
        if self.jitter_mm > most_mm:
            raise SettingsError(
                f"jitter_mm is {self.jitter_mm:g}, allowed is at most {most_mm:g} with patches of {self.patch_vox} "
                f"voxels of {spacing_mm:g} mm, or nodules leave their patches; choose a smaller jitter"
            )
