"""The models that come with the package: name, file, SHA-256.

``catalogue.json`` beside this module lists them; the first is the default. The
hash is checked before a byte of the file is interpreted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from napari_alnct.core.errors import ModelError

DEFAULT = "default"
SUFFIX = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A model on disk.

    ``sha256`` is None for a file of the user's own, whose hash is not known.
    """

    name: str
    path: Path
    sha256: str | None = None
    summary: str = ""


def list_models() -> list[ModelFile]:
    """Give the bundled models, the default first.

    Returns
    -------
    list of ModelFile
    """
    folder = Path(str(files("napari_alnct.models")))
    entries = json.loads((folder / "catalogue.json").read_text(encoding="utf-8"))
    return [
        ModelFile(name=e["name"], path=folder / e["file"], sha256=e["sha256"], summary=e["summary"]) for e in entries
    ]


def find_model(wish: str | Path = DEFAULT) -> ModelFile:
    """Give the model with this name, or the user's own file.

    Parameters
    ----------
    wish : str or Path
        ``default``, the name of a bundled model, or the path of a ``.safetensors`` file.

    Returns
    -------
    ModelFile

    Raises
    ------
    ModelError
        If there is no such model; the message lists the names.

    Examples
    --------
    >>> find_model().path.suffix
    '.safetensors'
    """
    models = list_models()
    if wish == DEFAULT:
        return models[0]
    for model in models:
        if model.name == str(wish):
            return model
    path = Path(wish)
    if path.suffix == SUFFIX or path.is_file():
        if not path.is_file():
            raise ModelError(f"{path.name}: no such model file; check the path")
        return ModelFile(name=path.stem, path=path)
    names = ", ".join(model.name for model in models)
    raise ModelError(f"no model called {wish}; bundled are {names}, or give the path of a {SUFFIX} file")
