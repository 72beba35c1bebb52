"""What ``train --tune`` does: the search, then the best setting in full; one live line, and a line per trial."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from napari_alnct.cli.live_bar import LiveBar
from napari_alnct.core.errors import JobCancelled, SettingsError

if TYPE_CHECKING:
    from napari_alnct.batch.tuning import Search, TuningWish
    from napari_alnct.batch.tuning_study import StudyState
    from napari_alnct.training.classifier import ClassifierSettings, EpochReport, TrainingResult
    from napari_alnct.training.tuning import TrialOutcome

FIXED_BY = {  # flag of train -> the setting that is not searched when it is given
    "lr": "learning_rate",
    "weight_decay": "weight_decay",
    "dropout": "dropout",
    "augment_strength": "strength",
    "neg_ratio": "neg_ratio",
    "feat_mult": "width",
}


REFUSED = {
    "overwrite": "--overwrite would take the study from other processes; choose another --save-dir instead",
    "shuffle_labels": "a control run has nothing to tune; give --shuffle-labels without --tune",
}
TORCHRUN = "a search trains one trial per process; start several processes with the same --save-dir, without torchrun"


def execute_tuning(
    patches: tuple[Path, Path],
    save_dir: Path,
    settings: ClassifierSettings,
    wish: Mapping[str, Any],
    given: Mapping[str, object],
    refused: Mapping[str, bool],
    is_stopped: Callable[[], bool],
) -> int:
    """Search, then train the best setting in full.

    Parameters
    ----------
    patches : tuple of Path
        Training and validation patches.
    save_dir : Path
        Folder of the run.
    settings : ClassifierSettings
        Of the full training.
    wish : mapping
        Fields of `napari_alnct.batch.tuning.TuningWish`.
    given : mapping
        Flags of ``train`` that fix a setting (keys of `FIXED_BY`), None where not given.
    refused : mapping
        Flags that make no sense here (keys of `REFUSED`), and whether they were given.
    is_stopped : callable
        Tells whether the user wants to stop.

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    SettingsError
        If a refused flag was given, or torchrun started this.
    JobCancelled
        When a signal came; everything is saved.
    """
    from napari_alnct.batch.tuning import TuningWish

    for flag, is_given in refused.items():
        if is_given:
            raise SettingsError(REFUSED[flag])
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingsError(TORCHRUN)
    fixed = tuple(FIXED_BY[flag] for flag, value in given.items() if value is not None)
    try:
        print(_tuned(patches, save_dir, settings, TuningWish(**wish, fixed=fixed), is_stopped))
    except JobCancelled:
        print("the study is saved; the same command goes on there")
        raise
    return 0


def _tuned(
    patches: tuple[Path, Path],
    save_dir: Path,
    settings: ClassifierSettings,
    wish: TuningWish,
    is_stopped: Callable[[], bool],
) -> str:
    """Search, train in full, and give what to print at the end."""
    from napari_alnct.batch.tuning import search
    from napari_alnct.batch.tuning_full import train_best
    from napari_alnct.cli.training_display import TrainingDisplay
    from napari_alnct.io.patch_store import PatchStore

    train, val = (PatchStore.open(path) for path in patches)
    with TuningDisplay(wish.n_trials) as shown:
        found = search(train, val, settings, save_dir, wish, listener=shown, is_cancelled=is_stopped)
    print(_search_line(found), flush=True)
    if not found.is_over:
        return "other processes are still at it; the last one trains the best setting in full"
    with TrainingDisplay(settings.epochs, settings.batch) as display:
        result = train_best(
            train,
            val,
            found,
            device=wish.device,
            on_epoch=display.epoch,
            on_step=display.step,
            on_note=display.line,
            is_cancelled=is_stopped,
        )
    return _full_line(result, save_dir)


class TuningDisplay(LiveBar):
    """Follows `napari_alnct.batch.tuning.search`: a live line on a terminal, a line on stdout per finished trial.

    Parameters
    ----------
    n_trials : int
        That shall be done in all.
    """

    def __init__(self, n_trials: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

        columns = (
            *(TextColumn("trials"), BarColumn(bar_width=20), MofNCompleteColumn()),
            *(TextColumn("{task.description}"), TimeElapsedColumn()),
        )
        super().__init__(*columns)
        self.n_trials, self._number, self._settings, self._begun = n_trials, 0, "", monotonic()
        self._best = ""
        self._task = self._bar.add_task("starting", total=n_trials)

    def trial_begins(self, number: int, settings: ClassifierSettings, state: StudyState) -> None:
        """Show which trial runs."""
        self._number, self._settings, self._begun = number, _shown(settings), monotonic()
        self._count(state, f"trial {number} starts")

    def epoch(self, report: EpochReport) -> None:
        """Show the epoch of the trial at hand."""
        text = f"trial {self._number} epoch {report.epoch}/{report.n_epochs} AUC {report.val_auc:.4f}{self._best}"
        self._bar.update(self._task, description=text)

    def trial_ends(self, number: int, outcome: TrialOutcome, state: StudyState) -> None:
        """Print the line of a trial."""
        is_best = state.best is not None and state.best.number == number
        self.line(
            f"trial {number} ({state.n_done} of {self.n_trials} done): {_ending(outcome)}"
            f"{', the best so far' if is_best else ''}; {self._settings}; {monotonic() - self._begun:.0f} s"
        )
        self._count(state, "")

    def note(self, text: str) -> None:
        """Print a line above the live one."""
        self.line(text)

    def _count(self, state: StudyState, text: str) -> None:
        best = state.best
        self._best = f"; best {best.value:.4f} (trial {best.number})" if best is not None else ""
        self._bar.update(self._task, completed=state.n_done, description=f"{text}{self._best}")


def _ending(outcome: TrialOutcome) -> str:
    if outcome.end == "failed":
        return f"failed ({outcome.reason})"
    word = "given up" if outcome.end == "pruned" else "done"
    epochs = "1 epoch" if outcome.n_epochs == 1 else f"{outcome.n_epochs} epochs"
    return f"{word} after {epochs}, AUC {outcome.auc:.4f}"


def _shown(settings: ClassifierSettings) -> str:
    """Give the settings of a trial in one line."""
    net = settings.network
    widths, depths = "-".join(map(str, net.channels)), "-".join(map(str, net.depths))
    ratio = "all" if settings.neg_ratio is None else f"{settings.neg_ratio:.2g}"
    return (
        f"channels {widths}, blocks {depths}, lr {settings.learning_rate:.1e}, decay {settings.weight_decay:.1e}, "
        f"dropout {net.dropout:.2f}, augment {settings.augment.strength:.2f}, neg {ratio}"
    )


def _search_line(found: Search) -> str:
    best = found.state.best
    end = "the time is over" if found.is_timed_out else "the search is done"
    which = f"; best AUC {best.value:.4f} (trial {best.number})" if best is not None else ""
    return f"{end}: {found.state.n_done} trials{which}; trials.csv, best_config.json and plots are in {found.save_dir}"


def _full_line(result: TrainingResult | None, save_dir: Path) -> str:
    if result is None:
        return f"the model is (or will be) {save_dir / 'best_full' / 'best.safetensors'}"
    return (
        f"trained in full: best validation AUC {result.best_auc:.4f} at epoch {result.best_epoch} of "
        f"{result.n_epochs}; leak guard: {result.guard} level, nothing shared\nthe model is {result.checkpoint}"
    )
