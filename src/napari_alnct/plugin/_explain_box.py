"""Explain candidate: buttons, progress, legend and words around the heat map of the mark that is looked at.

Nothing is computed or shown before it is asked for; the network's library is loaded by the first job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from qtpy.QtCore import QSignalBlocker, QTimer, Signal
from qtpy.QtWidgets import QWidget

from napari_alnct.core.errors import AlnctError
from napari_alnct.core.evidence import EvidenceMap
from napari_alnct.plugin._explain_controls import ExplainControls
from napari_alnct.plugin._explain_jobs import METHODS, OCCLUSION, Agreement, Explaining, Explanation
from napari_alnct.plugin._explain_layers import ScoreMap
from napari_alnct.plugin._explain_show import EvidenceShow
from napari_alnct.plugin._explain_subject import NO_MARKS, Subject, Target
from napari_alnct.plugin._key_hold import KeyHold
from napari_alnct.plugin._worker import Job, start_job

if TYPE_CHECKING:
    from collections.abc import Iterable

Work = Callable[[Job], Any]
NO_CANDIDATE = "No mark is chosen."
CANCELLED = "Cancelled. Nothing was changed."
REST_MS = 250  # without a jump, after which the layers follow


class Source(Protocol):
    """Where the box learns what there is to explain."""

    def current(self) -> Target | None:
        """Give the candidate that is looked at; None when there is none, or it must not be seen."""

    def subject(self) -> Subject:
        """Give scan, candidates and model, or raise an `AlnctError` that says why nothing can be explained."""


class ExplainBox(ExplainControls):
    """Explains candidates and shows their evidence.

    Parameters
    ----------
    show : EvidenceShow
        The layers; the box closes it.
    source : Source
        What there is to explain.

    Signals
    -------
    refused : (str,)
        Why something could not be done; it stands in the box too.
    explained : (tuple of EvidenceMap,)
        Maps were computed; they are not shown yet.
    """

    refused = Signal(str)
    explained = Signal(object)

    def __init__(self, show: EvidenceShow, source: Source, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.show_, self.source = show, source
        self.job: Job | None = None
        self._explaining = Explaining()
        self._subject: Subject | None = None  # of the job
        self._reasons: dict[str, str] = {}
        self._agreements: dict[str, tuple[EvidenceMap, Agreement]] = {}
        self._hold, self._hold_key = KeyHold(self), ""
        self._rest = QTimer(self, singleShot=True, interval=REST_MS)
        self._rest.timeout.connect(show.settle)
        show.later = self._rest.start
        self._connect()
        show.changed.connect(self._on_shown)
        self.follow()

    def _connect(self) -> None:
        self.explain_button.clicked.connect(self.explain)
        self.all_button.clicked.connect(self.explain_all)
        self.check_button.clicked.connect(self.check)
        self.cancel_button.clicked.connect(self.cancel)
        self.hold_button.pressed.connect(partial(self.hold_by_hand, True))
        self.hold_button.released.connect(partial(self.hold_by_hand, False))
        self.on_box.toggled.connect(self.switch)
        self.cells_box.toggled.connect(lambda is_on: setattr(self.show_, "is_smooth", not is_on))
        self.relative_box.toggled.connect(lambda is_on: setattr(self.show_, "is_relative", is_on))
        self.scores_box.clicked.connect(self.switch_scores)

    # -- commands -----------------------------------------------------------------------------

    def explain(self) -> None:
        """Explain the current candidate."""
        self._explain(lambda subject: () if subject.current is None else (subject.current,), NO_CANDIDATE)

    def explain_all(self) -> None:
        """Explain all candidates that are shown, so that one scale fits them all."""
        self._explain(lambda subject: subject.targets, NO_MARKS)

    def _explain(self, choose: Callable[[Subject], Sequence[Target]], otherwise: str) -> None:
        wish = self.options.wish

        def work(subject: Subject) -> Work:
            targets = choose(subject)
            if not targets:
                raise AlnctError(otherwise)
            return partial(self._explaining.explain, subject=subject, targets=targets, wish=wish)

        self._run(work)

    def check(self) -> None:
        """Compare the current candidate's map with occlusion."""
        one = self.current_map
        if one is None:
            self._refuse(self._missing())
        else:
            self._run(lambda subject: partial(self._explaining.occlude, subject=subject, one=one))

    def switch(self, is_on: bool | None = None) -> None:
        """Switch the heat map on or off; without a value to the other state."""
        self.show_.is_on = (not self.show_.is_on) if is_on is None else is_on
        if self.show_.is_on and self.current_map is None:
            self._refuse(self._missing())

    def hold(self) -> None:
        """Show the heat map until its key, which is down now, comes up."""
        if self.current_map is None:
            self._refuse(self._missing())
        else:
            self.show_.is_held = True
            self._hold.begin(self._hold_key, self._release)

    def _release(self) -> None:
        self.show_.is_held = False

    def hold_by_hand(self, is_down: bool) -> None:
        """Show the heat map while the caller's button or key is down."""
        self.show_.is_held = is_down and self.current_map is not None

    def switch_scores(self, is_on: bool) -> None:
        """Show or hide the first stage's score map of the whole scan; it is computed the first time."""
        layer = self.show_.scores
        if layer is not None:
            layer.visible = is_on
        elif is_on:
            self._run(lambda subject: partial(self._explaining.scores, subject=subject))
            self._follow_scores()

    # -- the current candidate ------------------------------------------------------------------

    @property
    def current_map(self) -> EvidenceMap | None:
        """Give the map of the candidate that is looked at, None when it is not explained."""
        target = self.source.current()
        return None if target is None else self.show_.map_at(target.name, target.position_xyz_mm)

    def follow(self) -> None:
        """Show the evidence of the candidate that is looked at now."""
        one = self.current_map
        self.show_.go_to(None if one is None else one.candidate)
        self._write()

    def _on_shown(self) -> None:
        for box, value in ((self.on_box, self.show_.is_on), (self.relative_box, self.show_.is_relative)):
            with QSignalBlocker(box):
                box.setChecked(value)
        self._follow_scores()
        self._write()

    def _follow_scores(self) -> None:
        layer = self.show_.scores
        with QSignalBlocker(self.scores_box):
            self.scores_box.setChecked(layer.visible if layer is not None else self.job is not None)

    def _write(self) -> None:
        """Write what is known of the current candidate, and offer what can be done."""
        target, one = self.source.current(), self.current_map
        reason = "" if target is None else self._reasons.get(target.name, "")
        if one is not None:
            reason = self.show_.reason(one.candidate)
        self.text.setText(_words(target, one, reason))
        has_layer = one is not None and not reason
        self.legend.setVisible(has_layer)
        if one is not None and has_layer:
            self.legend.show_scale(self.show_.limit_of(one), one.unit, is_relative=self.show_.is_relative)
        self._write_badge(one)
        self.explain_button.setEnabled(self.job is None)
        self.all_button.setEnabled(self.job is None)
        self.check_button.setEnabled(self.job is None and has_layer and one is not None and one.method != OCCLUSION)
        self.hold_button.setEnabled(has_layer)
        self.scores_box.setEnabled(self.job is None)

    def _write_badge(self, one: EvidenceMap | None) -> None:
        found = None if one is None else self._agreements.get(one.candidate)
        agreed = found[1] if found is not None and found[0] is one else None
        self.show_agreement(agreed)

    def _missing(self) -> str:
        target = self.source.current()
        return NO_CANDIDATE if target is None else f"{target.name.capitalize()} is not explained yet."

    def _refuse(self, text: str) -> None:
        self.message.setText(text)
        self.refused.emit(text)

    # -- jobs --------------------------------------------------------------------------------------

    def _run(self, make: Callable[[Subject], Work]) -> None:
        """Start a job, unless one runs; say in one sentence why it cannot be."""
        self.open_button.setChecked(True)
        if self.job is not None:
            return
        try:
            subject = self.source.subject()
            work = make(subject)
        except AlnctError as error:
            self._refuse(str(error))
            return
        self._subject = subject
        self.message.setText("Starting …")
        self.job = start_job(work, self._connect_job)
        self.show_progress(0.0)
        self._write()

    def _connect_job(self, job: Job) -> None:
        job.progressed.connect(self._on_progress)
        job.done.connect(self._on_done)
        job.failed.connect(self._on_failed)
        job.cancelled.connect(self._on_cancelled)

    def cancel(self) -> None:
        """Ask the running job to stop."""
        if self.job is not None:
            self.message.setText("Cancelling …")
            self.job.cancel()

    def _on_progress(self, stage: str, fraction: float) -> None:
        self.show_progress(fraction)
        self.message.setText(f"{stage} …")

    def _on_done(self, value: Explanation | Agreement | ScoreMap) -> None:
        subject = self._end()
        if subject is None:
            return
        if isinstance(value, Explanation):
            self._take(subject, value)
        elif isinstance(value, Agreement):
            self._take_agreement(value)
        else:
            self.show_.put_scores(subject.volume, value)
            self.message.setText("Score of each cell by the first stage alone, before the second look.")

    def _take(self, subject: Subject, value: Explanation) -> None:
        self.options.show_offers(value.offers)
        self._reasons = {name: text for name, text in self._reasons.items() if self._is_open(name)} | value.reasons
        self.explained.emit(value.maps)
        self.show_.put(subject.volume, value.maps)
        self.follow()
        self.show_.tidy()
        hint = "" if self.show_.is_on else f" Hold {self._hold_key or 'the button'} to see the heat map."
        left_out = [f"{name.capitalize()}: {text}." for name, text in value.reasons.items()]
        self.message.setText(" ".join([f"Explained in {value.seconds:.1f} s.{hint}", *left_out]))

    def _is_open(self, name: str) -> bool:
        return all(one.candidate != name for one in self.show_.maps)

    def _take_agreement(self, value: Agreement) -> None:
        one = next((one for one in self.show_.maps if one.candidate == value.candidate), None)
        if one is not None:
            self._agreements[value.candidate] = (one, value)
        self.message.setText("")
        self._write()

    def _on_failed(self, error: Exception) -> None:
        self._end()
        self._refuse(f"No map: {error}" if isinstance(error, AlnctError) else f"Failed: {error}")

    def _on_cancelled(self) -> None:
        self._end()
        self.message.setText(CANCELLED)

    def _end(self) -> Subject | None:
        subject, self._subject, self.job = self._subject, None, None
        self.show_progress(None)
        self._follow_scores()
        self._write()
        return subject

    # -- end ------------------------------------------------------------------------------------------

    def keep_only(self, targets: Iterable[Target]) -> None:
        """Forget the maps of candidates that are gone or elsewhere now."""
        self.show_.keep_only({target.name: target.position_xyz_mm for target in targets})
        self.follow()

    def reset(self) -> None:
        """Stop, and remove everything that was explained."""
        if self.job is not None:
            self.job.drop()
            self._end()
        self._hold.end()
        self._rest.stop()
        self._explaining.forget()
        self._reasons, self._agreements = {}, {}
        self.message.setText("")
        self.show_.clear()

    def show_keys(self, keys: Mapping[str, str]) -> None:
        """Write the keys on the buttons.

        Parameters
        ----------
        keys : mapping of str to str
            Name of the action to key.
        """
        self._hold_key = keys.get("hold_heat_map", "")
        self.write_keys(*(keys.get(name, "") for name in ("explain", "hold_heat_map", "heat_map")))

    def dispose(self) -> None:
        """Remove the layers and let go of the viewer."""
        self.show_.changed.disconnect(self._on_shown)
        self.show_.later = None
        self.reset()
        self.show_.close()


def _words(target: Target | None, one: EvidenceMap | None, reason: str) -> str:
    """Give what is known of a candidate in words."""
    if target is None:
        return NO_CANDIDATE
    name = target.name.capitalize()
    if one is None:
        return f"<b>{name}</b> cannot be explained: {reason}." if reason else f"<b>{name}</b> is not explained."
    method = METHODS.get(one.method, one.method)
    where = "" if one.method == OCCLUSION else f" at layer {one.layer}"
    told = f"<b>{name}</b>: logit {one.logit:+.2f} of the {one.score_name}, model {one.model_name}. {method}{where}."
    return f"{told} <b>{reason[:1].upper()}{reason[1:]}.</b>" if reason else told
