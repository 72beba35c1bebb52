"""What a batch has done, what failed and what is left: a JSON file that makes it resumable.

An item is *done* only for the settings and the input that it was done with: other
settings, or an input file that changed, make it *left* again. Failed items are tried
again on the next run, because the user may have mended the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from napari_alnct import __version__
from napari_alnct.core.errors import TableError
from napari_alnct.io.atomic_file import replacing_text

SCHEMA = 1
SAVE_EVERY_S = 1.0
State = Literal["left", "done", "failed"]


@dataclass(frozen=True, kw_only=True)
class Item:
    """What is known about one item of a batch.

    Parameters
    ----------
    state : {"left", "done", "failed"}
        Whether there is a result for the present settings and input.
    fingerprint : str
        Identity of the input, such as size and time of its files.
    code, message : str
        Why it failed: error code and one sentence.
    seconds : float
        Wall time of the job.
    result : dict
        What the job returned, JSON values.
    """

    state: State = "left"
    fingerprint: str = ""
    code: str = ""
    message: str = ""
    seconds: float = 0.0
    result: dict[str, Any] = field(default_factory=dict)


class Manifest:
    """The record of a batch, kept in one JSON file.

    Parameters
    ----------
    path : Path
        The file; read when it is there, written by `save`.
    kind : str
        What the batch does, such as ``preprocess``.
    settings : mapping
        JSON values that the results depend on.

    Raises
    ------
    TableError
        If the file is no manifest, or that of another kind of batch.
    """

    def __init__(self, path: Path, kind: str, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.kind = kind
        self.settings = json.loads(json.dumps(dict(settings)))
        self.items: dict[str, Item] = {}
        self._saved_at = -SAVE_EVERY_S
        if self.path.exists():
            self._read()

    @property
    def settings_sha256(self) -> str:
        """Give the hash of the settings, by which a resumed batch knows whether they changed."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()

    def plan(self, fingerprints: Mapping[str, str], *, overwrite: bool = False) -> list[str]:
        """Enter the items of a run and give those that must be done.

        Parameters
        ----------
        fingerprints : mapping of str to str
            Identity of the input of each item; items of earlier runs that are not among them stay.
        overwrite : bool, optional
            Do all of them again.

        Returns
        -------
        list of str
            Items to do, in the order given.
        """
        to_do = []
        for key, fingerprint in fingerprints.items():
            item = self.items.get(key)
            if overwrite or item is None or item.state != "done" or item.fingerprint != fingerprint:
                self.items[key] = Item(fingerprint=fingerprint)
                to_do.append(key)
        return to_do

    def forget(self, key: str) -> None:
        """Make an item left again, because its result is gone."""
        self.items[key] = Item()

    def record_done(self, key: str, result: Mapping[str, Any], seconds: float) -> None:
        """Enter the result of an item."""
        fingerprint = self.items[key].fingerprint
        self.items[key] = Item(state="done", fingerprint=fingerprint, result=dict(result), seconds=round(seconds, 3))
        self._save_now_and_then()

    def record_failed(self, key: str, code: str, message: str, seconds: float = 0.0) -> None:
        """Enter why an item failed."""
        fingerprint = self.items[key].fingerprint
        self.items[key] = Item(
            state="failed", fingerprint=fingerprint, code=code, message=message, seconds=round(seconds, 3)
        )
        self._save_now_and_then()

    def in_state(self, state: State, keys: Iterable[str] | None = None) -> list[str]:
        """Give the items in this state, among some or all, in their order."""
        return [key for key in (self.items if keys is None else keys) if self.items[key].state == state]

    def save(self) -> None:
        """Write the file; it appears whole or not at all."""
        document = {
            "schema": SCHEMA,
            "kind": self.kind,
            "program": f"napari-alnct {__version__}",
            "saved": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": self.settings,
            "settings_sha256": self.settings_sha256,
            "counts": {state: len(self.in_state(state)) for state in ("done", "failed", "left")},
            "items": {key: asdict(item) for key, item in self.items.items()},
        }
        with replacing_text(self.path) as file:
            json.dump(document, file, indent=1, ensure_ascii=False)
            file.write("\n")
        self._saved_at = monotonic()

    def _save_now_and_then(self) -> None:
        if monotonic() - self._saved_at >= SAVE_EVERY_S:
            self.save()

    def _read(self) -> None:
        advice = "delete it or choose another output folder"
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            items = {str(key): Item(**values) for key, values in document["items"].items()}
            kind, schema, settings_sha256 = document["kind"], document["schema"], document["settings_sha256"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TableError(f"{self.path.name} is not a manifest of a batch; {advice}") from error
        if (kind, schema) != (self.kind, SCHEMA):
            raise TableError(
                f"{self.path.name} belongs to another job ({kind}, schema {schema}), not to {self.kind}; {advice}"
            )
        is_same = settings_sha256 == self.settings_sha256
        self.items = {key: item if is_same else Item(fingerprint=item.fingerprint) for key, item in items.items()}
