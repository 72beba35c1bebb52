"""Moving a viewer to a place in the patient, the right way up, and adding layers; on a ViewerModel, no Qt.

World positions are (x, y, z) in LPS mm; the viewer's last three axes are (z, y, x).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_alnct.core.geometry import Triple
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._compat import camera_of, grid_of
from napari_alnct.plugin._layers import (
    AWAY_KEY,
    CT,
    MARK_UNIT_MM,
    MARKS,
    REFERENCE,
    UNKNOWN_DIAMETER_MM,
    LayerData,
    is_kind,
    layers_of,
    volume_of,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel

UPRIGHT_CALLBACK = "napari_alnct_upright"


def upright_orientation(order: tuple[int, ...]) -> tuple[str, str]:
    """Give the directions of the displayed axes that show a patient upright.

    Parameters
    ----------
    order : tuple of int
        ``viewer.dims.order``; the last two are the displayed rows and columns, axis 0 of the last three is z.

    Returns
    -------
    tuple of str
        ``("up", "right")`` when the rows run along z (coronal, sagittal: head up), else
        ``("down", "right")`` (axial: front of the body up, patient's left on the right).

    Examples
    --------
    >>> upright_orientation((0, 1, 2)), upright_orientation((1, 0, 2))
    (('down', 'right'), ('up', 'right'))
    """
    rows_along_z = order[-2] == len(order) - 3
    return ("up" if rows_along_z else "down"), "right"


def keep_upright(viewer: ViewerModel) -> None:
    """Turn axial, coronal and sagittal views upright, now and whenever the axes change.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Connected once; a second call changes nothing.
    """
    order_changed = viewer.dims.events.order
    if UPRIGHT_CALLBACK in order_changed.callback_refs:
        return

    def turn(event: Any = None) -> None:
        """Give the plane in view its upright orientation."""
        if viewer.dims.ndim >= 3:
            camera_of(viewer).orientation2d = upright_orientation(viewer.dims.order)

    order_changed.connect(turn, ref=UPRIGHT_CALLBACK)
    turn()


def jump_to(viewer: ViewerModel, position_xyz_mm: Triple) -> None:
    """Show the slice nearest to a position, with the position in the middle of the canvas.

    Zoom and window stay as they are.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Any viewer of at least three axes.
    position_xyz_mm : tuple of float
        LPS mm.
    """
    dims = viewer.dims
    place = dict(zip(range(dims.ndim - 3, dims.ndim), position_xyz_mm[::-1], strict=True))
    for axis, value in place.items():
        if axis in dims.not_displayed:
            start, _, step = dims.range[axis]
            dims.set_current_step(axis, round((value - start) / step))
    shown = [place.get(axis, dims.point[axis]) for axis in dims.displayed]
    camera_of(viewer).center = (0.0, *shown) if len(shown) == 2 else tuple(shown)


def add_quietly(viewer: ViewerModel, layer_data: LayerData, *, above: Volume | None = None) -> Any:
    """Add a layer and leave the user's layer selected.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Any viewer.
    layer_data : LayerData
        From `plugin._layers`.
    above : Volume, optional
        Put the layer just above this scan, below marks; else it goes on top.

    Returns
    -------
    napari.layers.Layer
    """
    from napari.layers import Layer

    active = viewer.layers.selection.active
    layer = viewer.add_layer(Layer.create(*layer_data))
    if is_kind(layer, MARKS, REFERENCE):
        layer.current_size = UNKNOWN_DIAMETER_MM / MARK_UNIT_MM  # of the next mark; napari's own 10 would be a metre
    scans = [] if above is None else layers_of(viewer.layers, above, CT)
    if scans:
        viewer.layers.move(len(viewer.layers) - 1, viewer.layers.index(scans[-1]) + 1)
    if active is not None:
        viewer.layers.selection.active = active
    return layer


def hide_earlier(viewer: ViewerModel, volume: Volume, *kinds: str) -> None:
    """Hide the layers that earlier runs made for a scan; none is deleted.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Any viewer.
    volume : Volume
        The scan.
    *kinds : str
        Kinds of layers, of `plugin._layers`.
    """
    for layer in layers_of(viewer.layers, volume, *kinds):
        layer.visible = False


def bring_forward(viewer: ViewerModel, volume: Volume) -> None:
    """Show one scan with its masks and marks, and hide those of the other scans, until they are chosen again.

    Scans share the world: marks of one patient would lie on the images of another. In grid mode, where
    scans stand side by side, nothing is changed.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Any viewer.
    volume : Volume
        The scan to see.
    """
    if grid_of(viewer).enabled:
        return
    for layer in viewer.layers:
        owner = volume_of(layer)
        if owner is volume:
            if layer.metadata.pop(AWAY_KEY, False) or is_kind(layer, CT):
                layer.visible = True
        elif owner is not None and layer.visible:
            layer.visible = False
            layer.metadata[AWAY_KEY] = True
