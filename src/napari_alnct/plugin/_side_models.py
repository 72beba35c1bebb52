"""Viewer models for the side planes: coronal and sagittal, upright, with nothing of napari's own mouse; no Qt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from napari_alnct.plugin._compat import camera_of, discard_model, set_background
from napari_alnct.plugin._viewport import upright_orientation

if TYPE_CHECKING:
    from napari.components import ViewerModel

SIDE_ORDERS = ((1, 0, 2), (2, 0, 1))  # coronal, sagittal


def make_side_models(viewer: ViewerModel) -> dict[tuple[int, int, int], ViewerModel]:
    """Give a coronal and a sagittal viewer model.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        The main one; they begin with its theme.

    Returns
    -------
    dict of tuple of int to napari.components.ViewerModel
        Order of the axes to model, which has no layers. napari's zoom by double click and by box, which
        knows axial planes only, is taken off.
    """
    from napari.components import ViewerModel

    models = {}
    for order in SIDE_ORDERS:
        model = ViewerModel(ndisplay=2, order=order)
        model.theme = viewer.theme
        camera_of(model).orientation2d = upright_orientation(order)
        for callbacks in (model.mouse_wheel_callbacks, model.mouse_drag_callbacks, model.mouse_double_click_callbacks):
            callbacks.clear()
        set_background(model, "black")
        models[order] = model
    return models


def discard(models: Iterable[ViewerModel]) -> None:
    """Let go of what the models hang on.

    Parameters
    ----------
    models : iterable of napari.components.ViewerModel
        From `make_side_models`; not used any more.
    """
    for model in models:
        discard_model(model)
