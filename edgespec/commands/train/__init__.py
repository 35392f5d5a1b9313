"""edgespec train: one file a subcommand."""

from __future__ import annotations

import typer

from .evaluate import evaluate
from .pretrain import pretrain
from .run import run

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Train a target and its draft from a recipe, or evaluate a draft.",
)
for _subcommand in (pretrain, run, evaluate):
    app.command()(_subcommand)
