"""Which evidence is seen: layers of a scan's maps in the main viewer and the side planes; no Qt.

A map explains the score of one candidate and reaches over its neighbours, so only the map of the *current*
candidate is in layers, and they are seen only while they are switched on or a key is held. The other maps wait in
memory. All candidates share one colour scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from napari_alnct.plugin._explain_pair import EvidencePair, relabel
from napari_alnct.plugin._layer_copies import LayerCopies
from napari_alnct.plugin._viewport import add_quietly

if TYPE_CHECKING:
    from napari.components import ViewerModel

SAME_PLACE_MM = 0.01


class EvidenceShow:
    """The evidence of one scan in a viewer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Gets the layers, above the scan and below the marks.
    side_viewers : sequence of napari.components.ViewerModel
        Show the same.

    Attributes
    ----------
    later : callable or None
        Has `settle` called soon, and not before the reader rests: a jump with nothing switched on then leaves the
        layers for later, and one to a candidate without evidence leaves them in the list, empty. None: at once, and
        they are taken out.

    Signals
    -------
    changed : ()
        What can be seen, or is seen, is something else.
    seen : (EvidenceMap,)
        The map of the current candidate came into view: switched on, held, or its layer made visible by hand. Of
        each map once in a showing, which lasts until nothing is switched on, held or visible.
    """

    changed = Signal()
    seen = Signal(object)

    def __init__(self, viewer: ViewerModel, side_viewers: Sequence[ViewerModel] = ()) -> None:
        self.viewer, self._sides = viewer, list(side_viewers)
        self.volume: Volume | None = None
        self._maps: dict[str, EvidenceMap] = {}
        self._current: str | None = None
        self._is_on = self._is_held = False
        self._is_relative, self._is_smooth = False, True
        self._scores: tuple[Any, LayerCopies] | None = None
        self._pair = EvidencePair(viewer, self._sides, self._tell_seen)
        self._taken_out: set[tuple[str, str]] = set()  # candidate and kind of layers that the user took out
        self._told: list[EvidenceMap] = []  # what came into view since the showing began
        self._is_drawing = False
        self.later: Callable[[], None] | None = None
        viewer.layers.events.removed.connect(self._on_removed)

    # -- the maps ---------------------------------------------------------------------------

    @property
    def maps(self) -> tuple[EvidenceMap, ...]:
        """Give the maps of the scan."""
        return tuple(self._maps.values())

    def layers_of(self, candidate: str) -> tuple[Any, ...]:
        """Give the layers of a candidate in the main viewer; none unless it is the current one and has support."""
        one = self._pair.one
        return () if one is None or one is not self._maps.get(candidate) else tuple(self._pair.layers.values())

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
        names = {one.candidate for one in maps}
        self._maps.update({one.candidate: one for one in maps})
        self._taken_out = {(name, kind) for name, kind in self._taken_out if name not in names}
        self.settle()

    def map_at(self, candidate: str, position_xyz_mm: Triple) -> EvidenceMap | None:
        """Give the map of a candidate, None when there is none or the candidate has moved since."""
        one = self._maps.get(candidate)
        return None if one is None or _distance(one.position_xyz_mm, position_xyz_mm) > SAME_PLACE_MM else one

    def keep_only(self, places_xyz_mm: Mapping[str, Triple]) -> None:
        """Remove the maps of candidates that are not there, or not at that place, any more.

        Parameters
        ----------
        places_xyz_mm : mapping of str to tuple of float
            Candidate to place, LPS mm.
        """
        gone = [
            name for name in self._maps if name not in places_xyz_mm or self.map_at(name, places_xyz_mm[name]) is None
        ]
        for name in gone:
            del self._maps[name]
        if gone:
            self.tidy()

    def reason(self, candidate: str) -> str:
        """Give in words why an explained candidate has no layer; empty when it has one."""
        one = self._maps.get(candidate)
        return "" if one is None or self.volume is None else why_no_layer(one, self.volume)

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
        """Give the layers the scale that holds now, and a name that tells a relative one."""
        one = self._pair.one
        if one is None or self.volume is None:
            return
        for kind, layer in self._pair.layers.items():
            layer.metadata[EVIDENCE_KEY]["is_relative"] = self._is_relative
            name = evidence_name(kind, one, self.volume, is_relative=self._is_relative)
            relabel(layer, name, (0.0, self.limit_of(one)))

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
        for layer in self._pair.every_layer:
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
        """Let the current candidate's layers be seen when they are switched on or held."""
        with self._drawing():
            is_wanted = self._is_on or self._is_held
            if is_wanted or self.later is None:
                self._draw()
            is_ready = self._pair.one is self._current_map
            self._pair.see(is_wanted and is_ready)
            if self.later is None:
                self._pair.tidy()
            elif not (is_ready and self._pair.is_settled):
                self.later()
        self.changed.emit()

    def settle(self) -> None:
        """Bring the layers to the current candidate's map; those that it does not need are emptied, or taken out."""
        self._bring(self._pair.tidy if self.later is None else self._pair.settle)

    def tidy(self) -> None:
        """Bring the layers to the current candidate's map, and take out the rest: it takes a while."""
        self._bring(self._pair.tidy)

    def _bring(self, clear: Callable[[], None]) -> None:
        with self._drawing():
            self._draw()
            clear()
            self._scale()
            self._pair.see(self._is_on or self._is_held)
        self.changed.emit()

    @property
    def _current_map(self) -> EvidenceMap | None:
        return None if self._current is None else self._maps.get(self._current)

    def _draw(self) -> None:
        """Draw the current candidate's map, hidden, unless it is drawn."""
        one, volume = self._current_map, self.volume
        if one is self._pair.one:
            return
        layers = []
        if one is not None and volume is not None:
            layers = evidence_layers(one, volume, self.limit_of(one), is_relative=self._is_relative)
        kept = [
            data for data in layers if (self._current, data[1]["metadata"][EVIDENCE_KEY]["kind"]) not in self._taken_out
        ]
        for _, attributes, _ in kept:
            attributes["interpolation2d"] = self._interpolation
        self._pair.draw(one, volume, kept)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Tell once, at the end, that a map has come into view."""
        self._is_drawing = True
        try:
            yield
        finally:
            self._is_drawing = False
        self._tell_seen()

    def _tell_seen(self) -> None:
        if self._is_drawing:
            return
        one, is_seen = self._pair.one, self._pair.is_seen
        if not (is_seen or self._is_on or self._is_held):
            self._told = []
        elif is_seen and one is not None and all(told is not one for told in self._told):
            self._told.append(one)
            self.seen.emit(one)

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

    def _drop_scores(self) -> None:
        scores, self._scores = self._scores, None
        if scores is not None:
            layer, copies = scores
            copies.close()
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)

    def forget_maps(self) -> None:
        """Remove the maps; the score map stays."""
        self._maps, self._taken_out = {}, set()
        self.tidy()

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
        kind = self._pair.let_go(layer)
        if kind and self._pair.one is not None:
            self._taken_out.add((self._pair.one.candidate, kind))
            self._tell_seen()

    def close(self) -> None:
        """Remove all layers and let go of the viewer."""
        self.clear()
        self.viewer.layers.events.removed.disconnect(self._on_removed)


def _kind(one: EvidenceMap) -> tuple[str, ...]:
    return one.method, one.layer, one.score_name, one.model_sha256


def _distance(one: Triple, other: Triple) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5)
