"""The record behind a reading that is under way: who reads, where it is kept, what was told; no Qt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psygnal import Signal

from napari_alnct.core.review import Review
from napari_alnct.io.reviews import AUDIT, AuditEntry, ReviewStore, read_audit

CURRENT_KEY = "current_mark"  # in the session on disk


class SessionRecord:
    """The stored side of a reading.

    Parameters
    ----------
    store : ReviewStore
        Open; `close` closes it.

    Signals
    -------
    saved : ()
        Everything is on disk, the place included.
    """

    saved = Signal()

    def __init__(self, store: ReviewStore) -> None:
        self._store = store
        self._current_id: int | None = store.stored.session.get(CURRENT_KEY)

    @property
    def stored_review(self) -> Review:
        """Give the review as it is on disk, without a threshold that is only shown for now."""
        return self._store.review

    @property
    def is_read_only(self) -> bool:
        """Tell whether another window has this reading."""
        return self._store.is_read_only

    @property
    def reader(self) -> str:
        """Give who reads."""
        return self._store.reader

    @property
    def folder(self) -> Path:
        """Give the folder of this reading."""
        return self._store.folder

    @property
    def place(self) -> dict[str, Any]:
        """Give what `flush` saved last, as it was when the reading was opened."""
        return dict(self._store.stored.session)

    @property
    def notes(self) -> tuple[str, ...]:
        """Give what is to be told about the record that was opened."""
        return self._store.stored.notes

    @property
    def entries(self) -> list[AuditEntry]:
        """Give the log, from the disk."""
        return read_audit(self._store.folder / AUDIT)[0]

    def flush(self, session: Mapping[str, Any]) -> None:
        """Save the place of the reader beside the log; nothing happens in a window that may only look.

        Parameters
        ----------
        session : mapping
            JSON values: what the views show.
        """
        if not self.is_read_only:
            self._store.save({**session, CURRENT_KEY: self._current_id})
            self.saved.emit()

    def close(self) -> None:
        """Let another window write."""
        self._store.close()
