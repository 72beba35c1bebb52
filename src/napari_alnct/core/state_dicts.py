"""Weights from PyTorch files (``.pth``, ``.pt``): read safely, fitted to a network or refused in one sentence.

Only numbers are read: a file with pickled code in it is refused before the code can run.
Such files carry no recipe, so nobody can check that they are what they claim to be;
``.safetensors`` files of this project (`checkpoint`) can be checked.

References
----------
``torch.load(weights_only=True)``: https://docs.pytorch.org/docs/stable/generated/torch.load.html
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_alnct.core.errors import ModelError

SUFFIXES = (".pth", ".pt")
PLACES = ("average", "ema", "state_dict", "model_state_dict", "model", "network")  # the first that is there is taken
WRAPPERS = ("module.", "_orig_mod.")  # of DistributedDataParallel and AveragedModel; of torch.compile
NOT_WEIGHTS = ("n_averaged",)  # AveragedModel's counter
CODE_WORDS = ("GLOBAL", "global", "TorchScript")  # in what torch says about a file that holds more than weights
OF_DAMAGED_FILES = (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError, zipfile.BadZipFile)


@dataclass(frozen=True, eq=False)
class StateDict:
    """Named weights, and where in the file they stood (empty: at the top)."""

    tensors: dict[str, Tensor]
    place: str


def read_state_dict(path: Path) -> StateDict:
    """Give the weights of a PyTorch file.

    Parameters
    ----------
    path : Path
        Holds a state dict, or a dict with one under a key of `PLACES`, such as the ``resume.pt`` of a training
        (its running average is taken).

    Returns
    -------
    StateDict
        On the CPU, without the prefixes of wrappers.

    Raises
    ------
    ModelError
        If the file is missing or damaged, holds code or no weights, or a weight is not finite.
    """
    tensors, place = _state_dict_in(_loaded(path), path.name)
    for prefix in (*WRAPPERS, *WRAPPERS):
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    bad = [key for key, value in tensors.items() if not torch.isfinite(value).all()]
    if bad:
        raise ModelError(f"{path.name}: {len(bad)} tensors hold NaN or infinity, first {bad[0]}; train it again")
    return StateDict(tensors, place)


def fill_network(network: nn.Module, tensors: dict[str, Tensor], name: str, *, advice: str) -> None:
    """Put weights into a network and set it to evaluation mode.

    Parameters
    ----------
    network : Module
        Changed in place.
    tensors : dict of str to Tensor
        Its state dict; counters of batch normalisation may be absent.
    name : str
        What to call the file in messages.
    advice : str
        What to do when they do not fit.

    Raises
    ------
    ModelError
        If they do not fit; it names the first tensor that differs.
    """
    wanted = network.state_dict()
    for key, value in wanted.items():
        if key not in tensors:
            if key.endswith("num_batches_tracked"):
                continue
            raise ModelError(f"{name}: the weights do not fit, {key} is not in the file; {advice}")
        if tensors[key].shape != value.shape:
            found, expected = tuple(tensors[key].shape), tuple(value.shape)
            raise ModelError(
                f"{name}: the weights do not fit, {key} has shape {found} where {expected} is expected; {advice}"
            )
    unknown = [key for key in tensors if key not in wanted]
    if unknown:
        raise ModelError(f"{name}: the weights do not fit, the network has no {unknown[0]}; {advice}")
    network.load_state_dict(wanted | tensors)
    network.eval()


def _loaded(path: Path) -> Any:
    """Give what the file holds, as far as it is numbers, text and containers; where it has checksums they must hold."""
    try:
        if zipfile.is_zipfile(path) and _has_flipped_bits(path):
            raise RuntimeError("a checksum differs")  # torch alone would load it in silence
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old formats make torch warn; what cannot be read raises anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{path.name}: no such model file; check the path") from None
    except OSError as fault:
        raise ModelError(f"{path.name} cannot be read ({fault.strerror}); check the path") from fault
    except (pickle.UnpicklingError, RuntimeError, EOFError, *OF_DAMAGED_FILES) as fault:
        raise ModelError(_why_refused(path, str(fault))) from fault


def _has_flipped_bits(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is not None


def _why_refused(path: Path, reason: str) -> str:
    if any(word in reason for word in CODE_WORDS):
        return (
            f"{path.name} holds pickled objects, which can run code when they are read, and was not opened; "
            "save its network.state_dict() alone and give that file"
        )
    return f"{path.name} cannot be read as PyTorch weights, it is damaged or of another kind; copy or train it again"


def _state_dict_in(content: Any, name: str) -> tuple[dict[str, Tensor], str]:
    """Give the weights of a loaded file and the key under which they stood."""
    if _is_state_dict(content):
        return _floats(content), ""
    if isinstance(content, dict):
        for place in PLACES:
            if _is_state_dict(content.get(place)):
                return _floats(content[place]), place
        found = ", ".join(str(key)[:40] for key in list(content)[:8]) or "nothing"
    else:
        found = type(content).__name__
    raise ModelError(
        f"{name}: no weights in it, found {found}; give a state dict, or a dict with one as {', '.join(PLACES)}"
    )


def _is_state_dict(content: object) -> bool:
    return (
        isinstance(content, dict)
        and any(isinstance(value, Tensor) for value in content.values())
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())
    )


def _floats(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        key: value.float() if value.is_floating_point() else value
        for key, value in state.items()
        if key not in NOT_WEIGHTS
    }
