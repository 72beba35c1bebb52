"""Counts of what a closed view could leave behind, blind to what earlier tests left."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any
from weakref import ReferenceType, ref

from napari_alnct.plugin._compat import camera_of

__all__ = ["Traces"]


class Traces:
    """The callbacks, overlays, layers and threads of a viewer, and what was added to napari's settings since the start.

    napari's settings live as long as the process, hold callbacks of every viewer of earlier tests that is not
    yet collected, and drop that of a dead object only when they next speak. So of the settings only callbacks count
    that were not there at the start, and everywhere only those of living objects. Nothing is kept alive here.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        With the scan as its first layer.
    **others : napari.utils.events.EmitterGroup
        More events of the viewer to count, by name.
    """

    def __init__(self, viewer: Any, **others: Any) -> None:
        from napari.settings import get_settings

        settings = get_settings()
        self._viewer = viewer
        self._groups: dict[str, Any] = {
            "dims": viewer.dims.events,
            "camera": camera_of(viewer).events,
            "canvas": viewer.canvas.events,
            "viewer": viewer.events,
            "layers": viewer.layers.events,
            "scan": viewer.layers[0].events,
            **others,
        }
        self._settings: dict[str, Any] = {
            "appearance": settings.appearance.events,
            "application": settings.application.events,
            "experimental": settings.experimental.events,
            "dask": settings.application.dask.events,
        }
        self._earlier = {
            name: [weak(callback) for callback in emitter.callbacks] for name, emitter in emitters(self._settings)
        }

    def counts(self) -> dict[str, int]:
        """Count living callbacks by emitter, mouse callbacks, overlays, layers and threads."""
        gc.collect()
        counts = {
            name: sum(weak(callback)[0]() is not None for callback in emitter.callbacks)
            for name, emitter in emitters(self._groups)
        }
        for name, emitter in emitters(self._settings):
            now = [weak(callback) for callback in emitter.callbacks]
            counts[name] = sum(
                owner() is not None and not self._was_there(name, owner, method) for owner, method in now
            )
        viewer = self._viewer
        counts["mouse"] = len(viewer.mouse_wheel_callbacks) + len(viewer.mouse_drag_callbacks)
        counts["overlays"] = len(viewer.canvas.overlays) + len(viewer.scene.overlays)
        counts["layers"] = len(viewer.layers)
        counts["threads"] = threading.active_count()
        return counts

    def _was_there(self, name: str, owner: ReferenceType[Any], method: str) -> bool:
        """Tell whether a setting's emitter had this callback at the start; one object has one plain weak reference."""
        return any(owner is old and method == old_method for old, old_method in self._earlier[name])


def emitters(groups: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give each emitter of groups of events with the name group.event."""
    for name, group in groups.items():
        for event, emitter in group.emitters.items():
            yield f"{name}.{event}", emitter


def weak(callback: Any) -> tuple[ReferenceType[Any], str]:
    """Give an emitter's callback as weak reference and method's name; a plain function has no name here."""
    return callback if isinstance(callback, tuple) else (ref(callback), "")
