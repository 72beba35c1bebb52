"""The model that a report speaks of, and what its card says of its limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_alnct.batch.report_inputs import BEST
from napari_alnct.core.checkpoint import Recipe, file_sha256, read_recipe
from napari_alnct.models.catalogue import ModelFile, find_model, list_models

CARD = "MODEL_CARD.md"
CARD_PARTS = ("what was not tested", "known failures", "limits", "limitations", "use")
MARKDOWN_ITALIC = re.compile(r"(?<![*\w])\*([^*\s][^*]*)\*(?!\*)")
MARKDOWN_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A model file, what it says of itself, and what its card says of its limits (blocks of text)."""

    recipe: Recipe
    sha256: str
    card: tuple[tuple[str, str], ...]


def find_model_facts(wish: str | None, train_dir: Path | None, record: Mapping[str, Any]) -> ModelFacts | None:
    """Give the model that a report speaks of.

    Parameters
    ----------
    wish : str or None
        Named by the user.
    train_dir : Path or None
        Else ``best.safetensors`` there, or the only model file there.
    record : mapping
        Else the bundled model that the record of the detection run names by its hash.

    Returns
    -------
    ModelFacts or None

    Raises
    ------
    ModelError
        If the named file cannot be used.
    """
    trained = _trained(train_dir)
    if wish is not None:
        entry = find_model(wish)
    elif trained is not None:
        entry = find_model(trained)
    else:
        used = record.get("model")
        sha256 = used.get("sha256") if isinstance(used, dict) else None
        same = [model for model in list_models() if sha256 and model.sha256 == sha256]
        if not same:
            return None
        entry = same[0]
    recipe = read_recipe(entry.path)
    return ModelFacts(recipe=recipe, sha256=file_sha256(entry.path), card=_card(entry, recipe))


def _trained(folder: Path | None) -> Path | None:
    """Give the model that a training left in its folder."""
    if folder is None:
        return None
    best, models = folder / BEST, sorted(folder.glob("*.safetensors"))
    if best.is_file():
        return best
    return models[0] if len(models) == 1 else None


def _card(entry: ModelFile, recipe: Recipe) -> tuple[tuple[str, str], ...]:
    """Give the parts of the model card that speak of limits; nothing when the card is of another model."""
    path = entry.path.with_name(CARD)
    if not path.is_file():
        return ()
    text = path.read_text(encoding="utf-8", errors="replace")
    title, _, rest = text.partition("\n")
    return tuple(_card_blocks(rest)) if recipe.name and title.rstrip().endswith(recipe.name) else ()


def _card_blocks(text: str) -> list[tuple[str, str]]:
    """Give headings, paragraphs and list items of the parts about limits; the introduction is one of them."""
    blocks: list[tuple[str, str]] = []
    is_wanted, is_new = True, True
    for line in text.splitlines():
        plain = MARKDOWN_LINK.sub(r"\1", line).strip().replace("`", "")
        plain = MARKDOWN_ITALIC.sub(r"\1", plain)
        if plain.startswith("#"):
            heading = plain.lstrip("# ")
            is_wanted, is_new = heading.lower().startswith(CARD_PARTS), True
            blocks += [("heading", heading)] if is_wanted else []
        elif not plain or plain.startswith("|"):
            is_new = True
        elif is_wanted and plain.startswith("- "):
            blocks.append(("item", plain[2:]))
            is_new = False
        elif is_wanted and is_new:
            blocks.append(("paragraph", plain))
            is_new = False
        elif is_wanted:
            kind, before = blocks[-1]
            blocks[-1] = (kind, f"{before} {plain}")
    return blocks
