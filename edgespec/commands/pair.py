"""edgespec pair TARGET [DRAFT] -o PAIR"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import Terminal
from ..stages import load_stage
from .export import show_pair


def run(
    target: Annotated[
        str,
        typer.Argument(help="An OpenVINO model: its directory or hub id; or a .gguf file that openvino-genai reads."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The pair directory to make; must not exist.")],
    draft: Annotated[
        str | None, typer.Argument(help="The draft: an OpenVINO model of the same vocabulary, or an EAGLE-3 head.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the target on the hub.")] = None,
    draft_revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the draft on the hub.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """OpenVINO models that are there already, or a GGUF target, to a pair directory, as they are.

    They are checked, hashed and compared, not converted. A hub id is fetched at one commit, which is recorded; after
    an interruption, files that had come whole are not fetched again.
    """
    terminal = Terminal(json_output)
    pair = load_stage("export").adopt_pair(
        target, draft, output, revision=revision, draft_revision=draft_revision, progress=terminal
    )
    show_pair(terminal, pair)
