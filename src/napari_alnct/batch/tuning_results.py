"""What a search leaves for people: a table of its trials, two plots, the best settings as a file for ``--config``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from optuna.trial import FrozenTrial

from napari_alnct.batch.tuning_study import REASON, RETRY_OF, SEED, SharedStudy
from napari_alnct.core.config import to_json
from napari_alnct.io.atomic_file import replacing_text
from napari_alnct.io.csv_files import Cell, Number, write_table
from napari_alnct.training.classifier import ClassifierSettings
from napari_alnct.training.saving import replace_file, saving
from napari_alnct.training.tuning_plots import history_png, importance_png

TABLE, CONFIG = "trials.csv", "best_config.json"
HISTORY, IMPORTANCE = "tuning_history.png", "tuning_importance.png"
TABLE_COLUMNS = ("trial", "state", "auc", "epochs", "seconds", "seed", "continues", "reason")


def best_settings(study: SharedStudy, best: FrozenTrial, full: ClassifierSettings) -> ClassifierSettings:
    """Give the settings of a trial with the epochs of the full training.

    Parameters
    ----------
    study : SharedStudy
        The search.
    best : FrozenTrial
        The trial.
    full : ClassifierSettings
        Of the full training.

    Returns
    -------
    ClassifierSettings
    """
    return replace(study.space.settings(best.params, seed=int(best.user_attrs[SEED])), epochs=full.epochs)


def write_results(save_dir: Path, study: SharedStudy, *, full: ClassifierSettings) -> None:
    """Write the table of trials, the plots, and the best settings as a file for ``--config``.

    Parameters
    ----------
    save_dir : Path
        Folder of the run.
    study : SharedStudy
        The search.
    full : ClassifierSettings
        Of the full training, for its number of epochs.
    """
    trials = study.trials()
    write_table(save_dir / TABLE, (*TABLE_COLUMNS, *study.space.names), (_row(t, study.space.names) for t in trials))
    for name, picture in ((HISTORY, history_png(trials)), (IMPORTANCE, importance_png(study.study()))):
        if picture is not None:
            replace_file(save_dir / name, picture)
    best = study.state().best
    if best is not None:
        write_settings(save_dir / CONFIG, best_settings(study, best, full))


def write_settings(path: Path, settings: ClassifierSettings) -> None:
    """Write settings as ``--config`` reads them.

    Parameters
    ----------
    path : Path
        JSON file; its folder is made when missing.
    settings : ClassifierSettings
        What to write.

    Raises
    ------
    ModelError
        If the disk does not take it.
    """
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_json(path, settings)


def _write_json(path: Path, settings: ClassifierSettings) -> None:
    with replacing_text(path) as file:
        json.dump(to_json(settings), file, indent=1)
        file.write("\n")


def _row(trial: FrozenTrial, names: tuple[str, ...]) -> tuple[Cell, ...]:
    attributes = trial.user_attrs
    values = list(trial.intermediate_values.values())
    auc = trial.value if trial.value is not None else max(values, default=None)
    seconds = trial.duration.total_seconds() if trial.duration is not None else None
    return (
        *(trial.number, trial.state.name.lower(), "" if auc is None else Number.fixed(auc, 6)),
        *(len(values), "" if seconds is None else Number.fixed(seconds, 1)),
        *(attributes.get(SEED, ""), attributes.get(RETRY_OF, ""), attributes.get(REASON, "")),
        *(Number.significant(float(trial.params[name]), 6) if name in trial.params else "" for name in names),
    )
