"""The subcommand ``models``: what is bundled, what a model says of itself, whether it is intact; others by address."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from napari_alnct.core.checkpoint import Recipe


def execute(
    action: Literal["list", "info", "verify", "download"] = "list",
    name: str = "default",
    /,
    *,
    json: Annotated[bool, Parameter(negative="")] = False,
    sha256: str | None = None,
    out: Path | None = None,
) -> None:
    """List the bundled models, show one, check one, or fetch another.

    Parameters
    ----------
    action
        list: names and sizes; info: recipe, thresholds and results; verify: hash, weights and self-test;
        download: a model file from an https address, checked in the same way.
    name
        Name of a bundled model, or the path of a .safetensors file; with download its address.
    json
        With info: print the whole recipe as JSON.
    sha256
        With download: the SHA-256 of the file, as its maker publishes it.
    out
        With download: file or folder to write; by default the name in the address, in this folder.

    Examples
    --------
    napari-alnct-train models list
    napari-alnct-train models info default
    napari-alnct-train models info runs/mine/model.safetensors --json
    napari-alnct-train models verify
    napari-alnct-train models download https://example.org/other.safetensors --sha256 HASH --out other.safetensors
    """
    if action == "download":
        from napari_alnct.cli.model_download import download_model

        print(download_model(name, sha256, out))
        return
    from napari_alnct.models.catalogue import find_model, list_models

    if action == "list":
        for number, model in enumerate(list_models()):
            size_mb = model.path.stat().st_size / 1e6
            print(f"{model.name}{' (default)' if number == 0 else ''}: {model.summary} {size_mb:.1f} MB")
        return
    from napari_alnct.core.checkpoint import read_checkpoint, read_recipe

    model = find_model(name)
    if action == "verify":
        checkpoint = read_checkpoint(model.path, sha256=model.sha256)
        known = "as listed" if model.sha256 else "of no listed model"
        print(f"{model.name}: intact. SHA-256 {checkpoint.sha256} ({known}), weights finite, self-test passed.")
    elif json:
        import json as json_format
        from dataclasses import asdict

        print(json_format.dumps(asdict(read_recipe(model.path)), indent=1))
    else:
        print(describe(read_recipe(model.path)))


def describe(recipe: Recipe) -> str:
    """Give what a model says of itself, for people.

    Parameters
    ----------
    recipe : Recipe
        From the model file.

    Returns
    -------
    str
        Several lines.
    """
    parts = [name for name in ("detector", "classifier") if getattr(recipe, name) is not None]
    low, high = recipe.prepare.low_hu, recipe.prepare.high_hu
    lines = [
        f"{recipe.name}, made {recipe.created or '(no date)'} with version {recipe.version}: {' and '.join(parts)}",
        f"input: {recipe.prepare.spacing_mm:g} mm, window {low:g} to {high:g} HU",
        "threshold by false marks per scan (on the held-out scans of its training):",
        *(f"  {float(rate):5g}: {value:.3f}" for rate, value in recipe.operating_points.items()),
    ]
    cases = recipe.training.get("cases", [])
    if cases:
        lines.append(f"trained on {len(cases)} scans and {recipe.training.get('n_donors', 0)} nodule cubes")
    for what, result in recipe.training.get("held_out_results", {}).items():
        lines.append(
            f"held out, {what}: CPM {result['cpm']:.3f} ({result['n_nodules']} nodules, {result['n_scans']} runs)"
        )
    return "\n".join(lines)
