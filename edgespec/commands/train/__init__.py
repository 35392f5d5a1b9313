"""edgespec train: one file a subcommand."""

from __future__ import annotations

import typer

from .align import align
from .evaluate import evaluate
from .generate import generate
from .init import init
from .pretrain import pretrain
from .run import run

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Make a draft for a target: init, pretrain, generate, align, evaluate; or a whole recipe: run.",
)
for _subcommand in (run, init, pretrain, generate, align, evaluate):
    app.command()(_subcommand)
