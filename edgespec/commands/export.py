"""edgespec export TARGET -o PAIR"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import Terminal
from ..stages import load_stage


def run(
    target: Annotated[str, typer.Argument(help="A Hugging Face checkpoint: its directory, or its hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The pair directory to make; must not exist.")],
    draft: Annotated[str | None, typer.Option(help="The draft: directory or hub id, of the same vocabulary.")] = None,
    dtype: Annotated[str, typer.Option(help="The weights' type in the pair: fp16, bf16 or fp32.")] = "fp16",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the target on the hub.")] = None,
    draft_revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the draft on the hub.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code the checkpoint brings; a hub id needs a full commit.")
    ] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read pickled weights where there are no safetensors.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """A Hugging Face checkpoint, with or without a draft, to an OpenVINO pair directory.

    Compress it afterwards with: edgespec quantize PAIR -o PAIR2
    """
    terminal = Terminal(json_output)
    pair = load_stage("export").export_pair(
        target,
        draft,
        output,
        dtype=dtype,
        revision=revision,
        draft_revision=draft_revision,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        progress=terminal,
    )
    manifest = pair.manifest
    models = {"target": manifest.target, "draft": manifest.draft}
    if not json_output:
        terminal.table(
            str(pair.root),
            ["model", "architecture", "weights", "precision", "size"],
            [
                [
                    role,
                    model.architecture,
                    f"{model.parameters / 1e6:,.1f} M",
                    model.precision,
                    f"{sum(file.bytes for file in model.files.values()) / 1e6:,.1f} MB",
                ]
                for role, model in models.items()
                if model is not None
            ],
        )
    document = {
        role: None
        if model is None
        else {
            "source": model.source.model_dump(),
            "architecture": model.architecture,
            "parameters": model.parameters,
            "vocab_size": model.vocab_size,
            "precision": model.precision,
            "bytes": sum(file.bytes for file in model.files.values()),
        }
        for role, model in models.items()
    }
    terminal.answer({"pair": str(pair.root), "tokenizer": manifest.tokenizer, **document}, f"pair ready: {pair.root}")
