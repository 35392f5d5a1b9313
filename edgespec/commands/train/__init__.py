"""edgespec train: one file a subcommand."""

from __future__ import annotations

import typer

from .evaluate import evaluate
from .init import init
from .pretrain import pretrain
from .run import run

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Make a draft for a target: init, pretrain, evaluate; or a whole recipe: run.",
)
for _subcommand in (init, pretrain, run, evaluate):
    app.command()(_subcommand)
