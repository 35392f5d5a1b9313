"""edgespec train: one file a subcommand."""

from __future__ import annotations

import typer

from .align import align
from .evaluate import evaluate
from .generate import generate
from .pretrain import pretrain
from .run import run

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Train a target and its draft from a recipe, or evaluate a draft.",
)
for _subcommand in (run, pretrain, generate, align, evaluate):
    app.command()(_subcommand)
