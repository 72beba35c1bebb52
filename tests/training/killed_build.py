"""Builds a tiny model from a prepared data set and kills itself on the way; a script of the resume test.

    python -m tests.training.killed_build PREPARED WHOLE CUT

builds once without a stop into WHOLE. Into CUT it builds again and again, each time in a
child process that SIGKILL ends at another event, until the last child runs to the end.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorboard.compat.proto.event_pb2  # noqa: F401 - imported here, it is imported once for all children
import torch
import torch._dynamo  # the optimiser does, too

from napari_alnct.training import first_stage, mining, patch_pool
from napari_alnct.training.loop import Trainer
from tests.training.tiny_build import build_tiny

EVENTS = (  # what has happened so often in its process when the process dies
    ("step", 2),  # before the first resume point
    ("scan searched for false marks", 2),  # in the middle of the first round
    ("validation written", 1),  # the best state is kept, the resume point is not
    ("step", 1),  # between resume points
    ("scan searched for false marks", 2),  # in the middle of the second round
    ("validation written", 2),  # at the end of the stage
    ("scan searched for the second look", 2),
    ("step", 3),  # in the second look
)
PLACES: dict[str, tuple[Any, str]] = {
    "step": (Trainer, "train_step"),
    "scan searched for false marks": (mining, "_false_marks"),
    "validation written": (first_stage.FirstStage, "_tell"),
    "scan searched for the second look": (patch_pool, "_write_part"),
}


def die_at(event: str, count: int) -> None:
    """Let this process die right after an event has happened so many times."""
    owner, name = PLACES[event]
    call: Callable[..., Any] = getattr(owner, name)
    n_calls = 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal n_calls
        result = call(*arguments, **named)
        n_calls += 1
        if n_calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, counted)


def run() -> None:
    """Build without a stop, then with all of them."""
    prepared, whole, cut = map(Path, sys.argv[1:])
    mining.LEAST_LOGIT = -100.0  # a network of a few steps is sure of nothing
    for event, folder in [(None, whole), *((event, cut) for event in EVENTS), (None, cut)]:
        child = os.fork()
        if not child:
            torch.set_num_threads(1)
            if event:
                die_at(*event)
            build_tiny(prepared, folder, lambda line: print(line, flush=True))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        ended = "killed" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else f"status {status}"
        print(f"--- {event or 'to the end'}: {ended}", flush=True)


if __name__ == "__main__":
    run()
