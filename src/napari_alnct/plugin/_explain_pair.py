"""The two layers of the heat map in view, evidence for and against, that go from candidate to candidate; no Qt.

Taking a layer out of napari collects garbage, in three viewers for a second and more, and a new one takes a fifth of
it. So while a reader walks the layers stay and get other values, place, name and limits. What the candidate does not
need is hidden at once, emptied when there is time, and taken out when explanations come or go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_alnct.core.evidence import EvidenceMap
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._explain_layers import AGAINST, EVIDENCE_KEY, MAP_KEY, SUPPORTS
from napari_alnct.plugin._layer_copies import LayerCopies
from napari_alnct.plugin._layers import LayerData
from napari_alnct.plugin._viewport import add_quietly

if TYPE_CHECKING:
    from napari.components import ViewerModel

NOTHING = "nothing here"  # in names of layers that wait for a map
UNTURNED = {"affine": np.eye(4), "rotate": np.eye(3), "shear": np.zeros(3)}  # as napari gives them for three axes


@dataclass(eq=False)
class _Drawn:
    """A layer and its copies in other viewers; empty when it shows nothing of any map."""

    layer: Any
    copies: LayerCopies
    is_empty: bool = False


class EvidencePair:
    """The layers of one evidence map at a time.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Gets the layers, above the scan and below the marks; what is selected there stays selected.
    side_viewers : sequence of napari.components.ViewerModel
        Show the same.
    on_visible : callable
        Called when a layer is shown or hidden, also by the user.
    """

    def __init__(
        self, viewer: ViewerModel, side_viewers: Sequence[ViewerModel], on_visible: Callable[[], None]
    ) -> None:
        self.viewer, self._sides, self._on_visible = viewer, list(side_viewers), on_visible
        self._drawn: dict[str, _Drawn] = {}
        self._wanted: tuple[str, ...] = ()
        self.one: EvidenceMap | None = None

    @property
    def layers(self) -> dict[str, Any]:
        """Give the layers of the map by kind, evidence for the score first."""
        return {kind: self._drawn[kind].layer for kind in (SUPPORTS, AGAINST) if kind in self._wanted}

    @property
    def is_seen(self) -> bool:
        """Tell whether any of it is visible."""
        return any(layer.visible for layer in self.layers.values())

    @property
    def every_layer(self) -> tuple[Any, ...]:
        """Give the layers, those too that the map does not need."""
        return tuple(drawn.layer for drawn in self._drawn.values())

    @property
    def is_settled(self) -> bool:
        """Tell whether the layers that the map does not need are empty."""
        return all(drawn.is_empty for kind, drawn in self._drawn.items() if kind not in self._wanted)

    def draw(self, one: EvidenceMap | None, volume: Volume | None, layers: Sequence[LayerData]) -> None:
        """Draw a map, hidden.

        Parameters
        ----------
        one : EvidenceMap or None
            The map; None: none.
        volume : Volume or None
            Its scan.
        layers : sequence of LayerData
            From `evidence_layers`; layers of other kinds are hidden.
        """
        self.see(False)
        wanted = {data[1]["metadata"][EVIDENCE_KEY]["kind"]: data for data in layers}
        for kind, data in wanted.items():
            if kind in self._drawn:
                _redraw(self._drawn[kind].layer, data)
                self._drawn[kind].is_empty = False
            else:
                self._drawn[kind] = self._added(data, volume)
        self.one, self._wanted = one, tuple(wanted)

    def _added(self, data: LayerData, volume: Volume | None) -> _Drawn:
        with _selection_kept(self.viewer):
            layer = add_quietly(self.viewer, data, above=volume)
        layer.events.visible.connect(self._on_layer_visible)
        return _Drawn(layer, LayerCopies(layer, self._sides))

    def _on_layer_visible(self, event: Any = None) -> None:
        self._on_visible()

    def see(self, is_seen: bool) -> None:
        """Show or hide the map in all viewers."""
        for kind, drawn in self._drawn.items():
            is_wanted = is_seen and kind in self._wanted
            if drawn.layer.visible != is_wanted:
                drawn.layer.visible = is_wanted

    def settle(self) -> None:
        """Empty what the map does not need, so that it shows no other candidate's evidence, whatever is clicked."""
        for kind, drawn in self._drawn.items():
            if kind not in self._wanted and not drawn.is_empty:
                _empty(drawn.layer, kind)
                drawn.is_empty = True

    def tidy(self) -> None:
        """Take out what the map does not need."""
        for kind in [kind for kind in self._drawn if kind not in self._wanted]:
            drawn = self._drawn.pop(kind)
            self._leave(drawn)
            if drawn.layer in self.viewer.layers:
                with _selection_kept(self.viewer):
                    self.viewer.layers.remove(drawn.layer)

    def let_go(self, layer: Any) -> str:
        """Give the kind of a layer that the user took out, and forget it; empty when it is none of these."""
        kind = next((kind for kind, drawn in self._drawn.items() if drawn.layer is layer), "")
        if kind:
            self._leave(self._drawn.pop(kind))
            self._wanted = tuple(other for other in self._wanted if other != kind)
        return kind

    def _leave(self, drawn: _Drawn) -> None:
        drawn.layer.events.visible.disconnect(self._on_layer_visible)
        drawn.copies.close()


def _redraw(layer: Any, data: LayerData) -> None:
    """Give a hidden layer the values and place of another map; how the user has it look stays."""
    values, attributes, _ = data
    layer.data = values
    for name, wanted in {"scale": attributes["scale"], **UNTURNED}.items():
        if not np.array_equal(np.asarray(getattr(layer, name)), wanted):
            setattr(layer, name, wanted)
    layer.translate = attributes["translate"]  # also where it is the same: the viewer then asks for the new extent
    layer.metadata = {**layer.metadata, **attributes["metadata"]}
    relabel(layer, attributes["name"], attributes["contrast_limits"])


def _empty(layer: Any, kind: str) -> None:
    """Take the values out of a hidden layer; one cell without evidence stays where it is."""
    layer.data = np.zeros((1, 1, 1), np.float32)
    layer.translate = layer.translate
    layer.metadata = {**layer.metadata, EVIDENCE_KEY: {"kind": kind}, MAP_KEY: None}
    layer.name = f"{kind.capitalize()}: {NOTHING}"


def relabel(layer: Any, name: str, limits: tuple[float, float]) -> None:
    """Give a layer a name and the ends of its colour scale, where they are other ones.

    Parameters
    ----------
    layer : napari.layers.Image
        Of evidence.
    name : str
        The name.
    limits : tuple of float
        In the map's unit.
    """
    if layer.name != name:
        layer.name = name
    for attribute in ("contrast_limits_range", "contrast_limits"):
        if tuple(getattr(layer, attribute)) != limits:
            setattr(layer, attribute, limits)


@contextmanager
def _selection_kept(viewer: ViewerModel) -> Iterator[None]:
    """Leave selected what is, also when that is nothing or several layers: napari selects a new layer alone."""
    selection = viewer.layers.selection
    before = set(selection)
    yield
    kept = before & set(viewer.layers)
    if set(selection) != kept:
        selection.clear()
        selection.update(kept)
