"""The command ``napari-alnct-train``: parser, dispatch, messages and exit codes.

Subcommands are registered by name and imported when they run. Exit codes:
0 all done; 1 unexpected fault; 2 usage; 3 the only input was refused; 4 a
batch finished with failed rows; 130 cancelled. A fault that the user can act
on is one sentence on stderr; ``ALNCT_TRACEBACK=1`` adds the traceback.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from cyclopts import App, CycloptsError

from napari_alnct import __version__
from napari_alnct.cli.options import with_flag
from napari_alnct.core.errors import AlnctError, JobCancelled, LungsNotFoundError, ReadError, SettingsError
from napari_alnct.core.notice import NOTICE

NAME = "napari-alnct-train"
DONE, FAULT, USAGE, REFUSED, PARTLY_FAILED, CANCELLED = 0, 1, 2, 3, 4, 130
TRACEBACK_VARIABLE = "ALNCT_TRACEBACK"

SUBCOMMANDS = {  # name -> line in the overview; each lives in the module of this name, function `execute`
    "info": "Show geometry, checks and HU statistics of scans.",
    "phantom": "Make synthetic chest CTs with known nodules, in LUNA16 layout.",
    "download": "Fetch the LUNA16 data set from its public records, verified and unpacked.",
    "preprocess": "Prepare scans: lung masks, resampled volumes, annotations in voxels.",
    "sample": "Cut patches from prepared scans: nodules, and negatives of several kinds.",
    "detect": "Find nodule candidates in scans and write them as a LUNA16 table.",
    "train": "Train the patch classifier.",
    "train-detector": "Train the nodule detector.",
    "eval": "Judge a classifier on patches: ROC, precision-recall, confusion, calibration, by size.",
    "crossval": "Cross-validate the detector: prepare, train and test fold by fold, one joined FROC.",
    "gradcam": "Explain scores: where the network looked, as maps and pictures.",
    "froc": "Judge candidates against reference nodules: FROC and CPM by LUNA16's rule.",
    "explain-eval": "Judge a model's explanations on nodules with masks: plausible, true to the network, stable?",
    "report": "Write one self-contained HTML page of a run, with examples as pictures.",
    "study": "Make a reader study: name the cases, give each reader an order.",
    "study-table": "Join all readers' decisions into tables for analysis.",
    "models": "List the bundled models, show what one says of itself, check one, fetch another.",
}
GENERAL_FLAGS = ("--help", "-h", "--version")


def run() -> None:
    """Run the command with the arguments of this process and leave with its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does: no name ends a run
    sys.exit(dispatch(sys.argv[1:]))


def dispatch(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code; every fault becomes a message on stderr.

    Parameters
    ----------
    arguments : sequence of str
        Without the program's name.

    Returns
    -------
    int
        0, 1, 2, 3, 4 or 130.
    """
    try:
        result = make_app(_subcommand(arguments))(list(arguments), result_action="return_value")
        sys.stdout.flush()
        return int(result or DONE)
    except (KeyboardInterrupt, JobCancelled) as error:
        return _tell("cancelled; nothing was left half-written", CANCELLED, error)
    except (ReadError, LungsNotFoundError) as error:
        return _tell(with_flag(str(error)), REFUSED, error)
    except AlnctError as error:
        return _tell(str(error), USAGE, error)
    except CycloptsError as error:
        return _tell(f"{' '.join(str(error).split())} (try --help)", USAGE, error)
    except BrokenPipeError:  # the reader of our output has gone, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    except Exception as error:
        return _tell(_unexpected(error), FAULT, error)


def make_app(active: str | None = None) -> App:
    """Give the parser; no subcommand is imported but the active one.

    Parameters
    ----------
    active : str, optional
        The subcommand about to run: its help is its own docstring, that of the others one line.

    Returns
    -------
    cyclopts.App
    """
    app = App(
        name=NAME,
        help=f"Find, explain and review lung nodules in chest CT.\n\n{NOTICE}",
        version=f"napari-alnct {__version__}\n{NOTICE}",
        version_format="plaintext",
        version_flags=["--version"],
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for name, line in SUBCOMMANDS.items():
        module = f"napari_alnct.cli.{name.replace('-', '_')}"
        if name == active:
            execute = importlib.import_module(module).execute
            app.command(execute, name=name, help_epilogue=_examples(execute))
        else:
            app.command(f"{module}:execute", name=name, help=line)
    return app


def _examples(function: Callable[..., object]) -> str:
    """Give the Examples part of a docstring, which the help page leaves out, as a block of literal lines."""
    _, heading, text = inspect.cleandoc(function.__doc__ or "").partition("Examples\n--------\n")
    lines = [line.strip() for line in text.splitlines() if not line.strip().startswith(("```", "::"))]
    shown = "\n".join(f"    {line}" for line in lines).strip()
    return f"Examples:\n\n    {shown}" if heading else ""


def _subcommand(arguments: Sequence[str]) -> str | None:
    """Give the subcommand of a command line; None when it begins with a flag."""
    if not arguments or arguments[0] in GENERAL_FLAGS:
        return None
    name = arguments[0]
    if name.startswith("-"):
        raise SettingsError(f"there is no option {name} before a subcommand; try --help")
    if name not in SUBCOMMANDS:
        near = difflib.get_close_matches(name, SUBCOMMANDS, n=1)
        advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(SUBCOMMANDS)}"
        raise SettingsError(f"there is no subcommand '{name}'; {advice}")
    return name


def _unexpected(error: Exception) -> str:
    """Give one line on a fault that nobody foresaw, without paths."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{os.path.basename(os.fsdecode(error.filename))}: " if error.filename else ""
        what = f"{place}{error.strerror}"
    elif isinstance(error, ImportError):
        what = f"this part cannot be loaded ({error})"
    else:
        what = f"unexpected {type(error).__name__}"
    return f"{what}; for the traceback set {TRACEBACK_VARIABLE}=1 and run again"


def _tell(message: str, code: int, error: BaseException) -> int:
    if os.environ.get(TRACEBACK_VARIABLE):
        traceback.print_exception(error)
    print(f"{NAME}: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    run()
