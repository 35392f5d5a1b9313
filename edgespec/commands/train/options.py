"""What the subcommands of edgespec train have in common: choices, and how one ends that was asked to stop.

The stage has the same choices as types of its own, which it would take seconds to import for a --help; a test holds the
two together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import typer

from ...console import Terminal
from ...progress import Progress

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

Beginning = Literal["scratch", "copy", "project"]
Engine = Literal["openvino", "transformers", "vllm"]
Head = Literal["target", "tied", "untied"]
Optimizer = Literal["adamw", "muon"]
Precision = Literal["auto", "bf16", "f32"]
ScheduleShape = Literal["cosine", "wsd"]

CHECKPOINT_KEPT = "stopped; the last checkpoint is kept, and the same command goes on from there"


@contextmanager
def going_on(progress: Progress, sentence: str) -> Iterator[None]:
    """On Ctrl-C, `sentence` says what is kept and how to go on; the command then ends as after any Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        progress.say(sentence)
        raise


def end_training(terminal: Terminal, facts: Mapping[str, Any], finished: str, stopped: str) -> None:
    """Say how training ended, in one of the two sentences; print the facts; exit with 130 when it was stopped."""
    terminal.say(finished if facts["finished"] else stopped)
    terminal.answer(dict(facts))
    if not facts["finished"]:
        raise typer.Exit(130)
