"""Which evidence is seen: layers of a scan's maps in the main viewer and the side planes; no Qt.

A map explains the score of one candidate and reaches over its neighbours, so only the maps of the *current*
candidate are seen, and only while they are switched on or a key is held. All candidates share one colour scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_alnct.core.evidence import EvidenceMap, shared_limit
from napari_alnct.core.geometry import Triple
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._explain_layers import (
    EVIDENCE_KEY,
    ScoreMap,
    evidence_layers,
    evidence_name,
    score_layer,
    why_no_layer,
)
from napari_alnct.plugin._layer_copies import LayerCopies
from napari_alnct.plugin._viewport import add_quietly

if TYPE_CHECKING:
    from napari.components import ViewerModel

SAME_PLACE_MM = 0.01


@dataclass(eq=False)
class _Shown:
    """A map and what is drawn of it; the copies by layer."""

    one: EvidenceMap
    layers: list[Any] = field(default_factory=list)
    copies: list[LayerCopies] = field(default_factory=list)


class EvidenceShow:
    """The evidence of one scan in a viewer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Gets the layers, above the scan and below the marks.
    side_viewers : sequence of napari.components.ViewerModel
        Show the same.

    Signals
    -------
    changed : ()
        What can be seen, or is seen, is something else.
    """

    changed = Signal()

    def __init__(self, viewer: ViewerModel, side_viewers: Sequence[ViewerModel] = ()) -> None:
        self.viewer, self._sides = viewer, list(side_viewers)
        self.volume: Volume | None = None
        self._shown: dict[str, _Shown] = {}
        self._current: str | None = None
        self._is_on = self._is_held = False
        self._is_relative, self._is_smooth = False, True
        self._scores: tuple[Any, LayerCopies] | None = None
        viewer.layers.events.removed.connect(self._on_removed)

    # -- the maps ---------------------------------------------------------------------------

    @property
    def maps(self) -> tuple[EvidenceMap, ...]:
        """Give the maps of the scan."""
        return tuple(shown.one for shown in self._shown.values())

    def layers_of(self, candidate: str) -> tuple[Any, ...]:
        """Give the layers of a candidate in the main viewer; none when nothing supports its score."""
        shown = self._shown.get(candidate)
        return () if shown is None else tuple(shown.layers)

    def put(self, volume: Volume, maps: Sequence[EvidenceMap]) -> None:
        """Take maps; those of another scan, model, score, layer or method are removed first.

        Parameters
        ----------
        volume : Volume
            The scan.
        maps : sequence of EvidenceMap
            Of one model, score, layer and method; of a candidate that has one already it is replaced.
        """
        if not maps:
            return
        if volume is not self.volume or any(_kind(one) != _kind(maps[0]) for one in self.maps):
            self.forget_maps()
        if volume is not self.volume:
            self.clear()
        self.volume = volume
        for one in maps:
            self._drop(one.candidate)
            self._shown[one.candidate] = _Shown(one)
        for one in maps:
            self._draw(self._shown[one.candidate], volume)
        self._scale()
        self._show()

    def map_at(self, candidate: str, position_xyz_mm: Triple) -> EvidenceMap | None:
        """Give the map of a candidate, None when there is none or the candidate has moved since."""
        shown = self._shown.get(candidate)
        if shown is None or _distance(shown.one.position_xyz_mm, position_xyz_mm) > SAME_PLACE_MM:
            return None
        return shown.one

    def keep_only(self, places_xyz_mm: Mapping[str, Triple]) -> None:
        """Remove the maps of candidates that are not there, or not at that place, any more.

        Parameters
        ----------
        places_xyz_mm : mapping of str to tuple of float
            Candidate to place, LPS mm.
        """
        for candidate in list(self._shown):
            place = places_xyz_mm.get(candidate)
            if place is None or self.map_at(candidate, place) is None:
                self._drop(candidate)
        self._scale()

    def reason(self, candidate: str) -> str:
        """Give in words why an explained candidate has no layer; empty when it has one."""
        shown = self._shown.get(candidate)
        return "" if shown is None or self.volume is None else why_no_layer(shown.one, self.volume)

    def _draw(self, shown: _Shown, volume: Volume) -> None:
        limit = self.limit_of(shown.one)
        for layer_data in evidence_layers(shown.one, volume, limit, is_relative=self._is_relative):
            layer_data[1]["interpolation2d"] = self._interpolation
            layer = add_quietly(self.viewer, layer_data, above=volume)
            shown.layers.append(layer)
            shown.copies.append(LayerCopies(layer, self._sides))

    # -- the scale ----------------------------------------------------------------------------

    @property
    def limit(self) -> float:
        """Give the top of the colour scale that all maps share, in their unit."""
        return shared_limit(self.maps)

    def limit_of(self, one: EvidenceMap) -> float:
        """Give the top of the colour scale of a map, in its unit."""
        return shared_limit([one]) if self._is_relative else self.limit

    @property
    def is_relative(self) -> bool:
        """Tell whether each map has a scale of its own, which is not to be compared."""
        return self._is_relative

    @is_relative.setter
    def is_relative(self, is_relative: bool) -> None:
        self._is_relative = is_relative
        self._scale()
        self.changed.emit()

    def _scale(self) -> None:
        """Give every layer the scale that holds now, and a name that tells a relative one."""
        assert self.volume is not None or not self._shown
        for shown in self._shown.values():
            limits = (0.0, self.limit_of(shown.one))
            for layer in shown.layers:
                kind = layer.metadata[EVIDENCE_KEY]["kind"]
                layer.metadata[EVIDENCE_KEY]["is_relative"] = self._is_relative
                if self.volume is not None:
                    layer.name = evidence_name(kind, shown.one, self.volume, is_relative=self._is_relative)
                if tuple(layer.contrast_limits_range) != limits:
                    layer.contrast_limits_range = limits
                if tuple(layer.contrast_limits) != limits:
                    layer.contrast_limits = limits

    @property
    def _interpolation(self) -> str:
        return "linear" if self._is_smooth else "nearest"

    @property
    def is_smooth(self) -> bool:
        """Tell whether values between cell centres are interpolated; else the cells are seen."""
        return self._is_smooth

    @is_smooth.setter
    def is_smooth(self, is_smooth: bool) -> None:
        self._is_smooth = is_smooth
        for layer in [layer for shown in self._shown.values() for layer in shown.layers]:
            layer.interpolation2d = self._interpolation
        self.changed.emit()

    # -- what is seen --------------------------------------------------------------------------

    @property
    def is_on(self) -> bool:
        """Tell whether the map of the current candidate is switched on."""
        return self._is_on

    @is_on.setter
    def is_on(self, is_on: bool) -> None:
        self._is_on = is_on
        self._show()

    @property
    def is_held(self) -> bool:
        """Tell whether a key or button that shows the map is held down."""
        return self._is_held

    @is_held.setter
    def is_held(self, is_held: bool) -> None:
        self._is_held = is_held
        self._show()

    def go_to(self, candidate: str | None) -> None:
        """Make a candidate the current one; with None nothing is seen."""
        if candidate != self._current:
            self._current = candidate
            self._show()

    def _show(self) -> None:
        """Let only the current candidate's layers be seen, when they are switched on or held."""
        for name, shown in self._shown.items():
            is_seen = (self._is_on or self._is_held) and name == self._current
            for layer in shown.layers:
                if layer.visible != is_seen:
                    layer.visible = is_seen
        self.changed.emit()

    # -- the score map ---------------------------------------------------------------------------

    @property
    def scores(self) -> Any:
        """Give the layer of the first stage's scores, None before `put_scores`."""
        return None if self._scores is None else self._scores[0]

    def put_scores(self, volume: Volume, scores: ScoreMap) -> None:
        """Take the first stage's scores of the scan, and show them.

        Parameters
        ----------
        volume : Volume
            The scan.
        scores : ScoreMap
            Of the scan.
        """
        if volume is not self.volume:
            self.clear()
        self.volume = volume
        self._drop_scores()
        layer = add_quietly(self.viewer, score_layer(scores, volume), above=volume)
        self._scores = (layer, LayerCopies(layer, self._sides))
        layer.visible = True
        self.changed.emit()

    # -- leaving -----------------------------------------------------------------------------------

    def _drop(self, candidate: str) -> None:
        shown = self._shown.pop(candidate, None)
        if shown is not None:
            _remove(self.viewer, shown)

    def _drop_scores(self) -> None:
        scores, self._scores = self._scores, None
        if scores is not None:
            layer, copies = scores
            copies.close()
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)

    def forget_maps(self) -> None:
        """Remove the maps; the score map stays."""
        for candidate in list(self._shown):
            self._drop(candidate)
        self.changed.emit()

    def clear(self) -> None:
        """Remove all layers, forget the scan, and switch off."""
        self._is_on = self._is_held = False
        self._drop_scores()
        self.forget_maps()
        self.volume = None
        self.changed.emit()

    def _on_removed(self, event: Any) -> None:
        """Follow a user who takes one of the layers away."""
        layer = event.value
        if self._scores is not None and layer is self._scores[0]:
            self._drop_scores()
            self.changed.emit()
        for shown in self._shown.values():
            if layer in shown.layers:
                place = shown.layers.index(layer)
                shown.layers.pop(place)
                shown.copies.pop(place).close()

    def close(self) -> None:
        """Remove all layers and let go of the viewer."""
        self.clear()
        self.viewer.layers.events.removed.disconnect(self._on_removed)


def _remove(viewer: ViewerModel, shown: _Shown) -> None:
    for copies in shown.copies:
        copies.close()
    layers, shown.layers, shown.copies = shown.layers, [], []
    for layer in layers:
        if layer in viewer.layers:
            viewer.layers.remove(layer)


def _kind(one: EvidenceMap) -> tuple[str, ...]:
    return one.method, one.layer, one.score_name, one.model_sha256


def _distance(one: Triple, other: Triple) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5)
