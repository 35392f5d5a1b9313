"""edgespec train generate: the target writes the alignment set."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ...bundled import BUNDLED, checkpoint_named
from ...console import Terminal
from ...errors import EdgespecError
from ...pair import MANIFEST, Pair
from ...stages import load_stage
from .options import Engine, JsonOption, going_on


def generate(
    target: Annotated[str, typer.Argument(help="A checkpoint (folder or hub id), a pair directory, or 'bundled'.")],
    prompts: Annotated[str, typer.Option(help="A .txt, .jsonl or .parquet file, hf:NAME[:SPLIT], or 'self': Magpie.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The set's folder; a run that was stopped goes on.")],
    count: Annotated[int | None, typer.Option(help="Prompts at most ('self': how many are tried).", min=1)] = None,
    column: Annotated[str | None, typer.Option(help="Where a record's text stands.")] = None,
    temperatures: Annotated[str, typer.Option(help="Taken in turn, prompt by prompt; 0 is greedy.")] = "0,0.6,0.8,1.0",
    each: Annotated[bool, typer.Option("--each", help="Answer every prompt at every temperature.")] = False,
    top_p: Annotated[float, typer.Option(help="Nucleus of what is drawn; 1 is off.")] = 0.95,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of an answer.", min=1)] = 256,
    longest_prompt: Annotated[int, typer.Option(help="Longer prompts are left out, in tokens.", min=1)] = 1024,
    seed: Annotated[int, typer.Option(help="Of what is drawn.", min=0)] = 0,
    engine: Annotated[Engine, typer.Option(help="What runs the target.")] = "openvino",
    device: Annotated[str, typer.Option(help="Of the engine openvino (see: edgespec devices).")] = "CPU",
    concurrent: Annotated[int | None, typer.Option(help="Answers written at a time.", min=1)] = None,
    shard: Annotated[int, typer.Option(help="Answers of a parquet file.", min=1)] = 512,
    top_k_logits: Annotated[
        int | None, typer.Option(help="Keep the target's so many likeliest tokens at each place.", min=1)
    ] = None,
    ray: Annotated[int, typer.Option("--ray", help="Workers on Ray Data instead of this process.", min=0)] = 0,
    json_output: JsonOption = False,
) -> None:
    """The target answers prompts at several temperatures: what its draft is aligned to.

    Prompts are put into the target's chat template where it has one. Parquet shards appear whole; run again, the
    command goes on behind the last one.
    """
    terminal = Terminal(json_output)
    stage = load_stage("train")
    settings = stage.Settings(
        temperatures=tuple(stage.read_temperatures(temperatures)),
        each=each,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
        longest_prompt=longest_prompt,
        shard=shard,
        seed=seed,
    )
    if ray and prompts == "self":
        raise EdgespecError("--ray answers prompts that are there; let the target write its own first, without --ray")
    if ray and top_k_logits:
        raise EdgespecError("--ray keeps no distributions; run the command again without --ray to add --top-k-logits")
    given = _Target.of(target, engine)
    job = stage.AlignmentJob(
        target=given.name,
        prompts=prompts,
        count=count,
        column=column,
        engine=engine,
        device=device,
        concurrent=concurrent,
    )
    kept = "stopped; the shards that are written are kept, and the same command goes on behind the last one"
    with going_on(terminal, kept), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if engine == "openvino" and given.ir is None:
            pair = load_stage("export").export_pair(given.name, None, Path(folder) / "pair", progress=terminal)
            given = _Target(given.name, pair.target)
        report = stage.run_alignment_job(
            job, settings, out, ir=given.ir, top_k_logits=top_k_logits, ray_workers=ray, progress=terminal
        )
    rate = report["tokens_per_second"]
    terminal.say(
        f"{report['answers']} answers, {report['tokens']} tokens in {report['shards']} shards at '{out}'"
        + (f"; {rate:.0f} tokens/s" if rate else "")
    )
    terminal.answer({"out": str(out), **report})


class _Target:
    """name: a checkpoint, or a folder with a tokenizer; ir: what openvino-genai loads, if it is there."""

    def __init__(self, name: str, ir: Path | None) -> None:
        self.name = name
        self.ir = ir

    @classmethod
    def of(cls, target: str, engine: str) -> _Target:
        if target == BUNDLED or not (Path(target) / MANIFEST).is_file():
            return cls(checkpoint_named(target, "target"), None)
        if engine != "openvino":
            raise EdgespecError(
                f"'{target}' is a pair of OpenVINO models, which {engine} does not run; use --engine openvino"
            )
        pair = Pair.open(Path(target))
        return cls(str(pair.target), pair.target)
