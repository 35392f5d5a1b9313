"""The page about quantize has every option and every format, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import typer
from typer.main import get_command

from edgespec.commands.quantize import run
from edgespec.quantize import FORMATS, PRESETS

PAGE = (Path(__file__).parents[2] / "docs" / "quantize.md").read_text(encoding="utf-8")


def test_every_option_is_explained_and_no_other() -> None:
    app = typer.Typer()
    app.command()(run)
    there = {name for option in get_command(app).params for name in option.opts if name.startswith("--")}
    there -= {"--install-completion", "--show-completion", "--help"}
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `--")]
    told = {name for row in rows for name in re.findall(r"`(--[a-z0-9-]+)`", row)}
    assert there <= told
    assert told - there == {"--no-cost"}


def test_every_format_and_preset_is_in_the_tables() -> None:
    for name in (*FORMATS, *PRESETS):
        assert f"`{name}`" in PAGE
