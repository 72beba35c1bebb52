"""Sample data: synthetic chest CTs that are generated when they are opened."""

from __future__ import annotations

from napari_alnct.data.phantom import PhantomScan, PhantomSettings, make_phantom, small_settings
from napari_alnct.plugin._compat import current_viewer
from napari_alnct.plugin._layers import LayerData, ct_layer, reference_layer
from napari_alnct.plugin._viewport import keep_upright

SEED = 11
FULL = PhantomSettings(shape_zyx=(150, 512, 512), spacing_zyx_mm=(2.0, 0.7, 0.7), n_nodules=8, seed=SEED)


def small_phantom() -> list[LayerData]:
    """Give a small synthetic chest CT, made in about two seconds."""
    return _layers(make_phantom(small_settings(SEED)), with_reference=False)


def small_phantom_with_reference() -> list[LayerData]:
    """Give the same small chest CT and its reference nodules as rings."""
    return _layers(make_phantom(small_settings(SEED)), with_reference=True)


def full_phantom() -> list[LayerData]:
    """Give a synthetic chest CT of full size (512 x 512 x 150), made in about ten seconds."""
    return _layers(make_phantom(FULL), with_reference=False)


def _layers(scan: PhantomScan, *, with_reference: bool) -> list[LayerData]:
    if viewer := current_viewer():
        keep_upright(viewer)
    volume = scan.volume
    layers = [ct_layer(volume)]
    if with_reference:
        layers.append(reference_layer(scan.nodules, series_uid=volume.series_uid, volume=volume))
    return layers
