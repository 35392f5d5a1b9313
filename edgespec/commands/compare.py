"""edgespec compare A B [C ...]"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import click
import typer
from typer.core import TyperCommand

from ..console import Terminal
from ..errors import EdgespecError
from ..stages import load_stage
from ..staging import require_absent, require_folder, write_atomically

JSON, MARKDOWN = "compare.json", "compare.md"


class _TwoWords(TyperCommand):
    """Takes `--fail-if slower-than 0.95` as well as `--fail-if "slower-than 0.95"`: the second word belongs to the
    first, and is no run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        joined: list[str] = []
        words = iter(args)
        for word in words:
            joined.append(word)
            if word == "--fail-if":
                condition = next(words, None)
                if condition is None:
                    break
                bare = not any(mark in condition for mark in " =") and not condition.startswith("-")
                value = next(words, None) if bare else None
                joined.append(condition if value is None else f"{condition} {value}")
        return super().parse_args(ctx, joined)


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command("compare", cls=_TwoWords)
def run(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of edgespec bench, or report.json files; the first is the baseline.")
    ],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            help="Exit 1 when this is established: slower-than 0.95, acceptance-below 0.6, identical-below 0.9. "
            "Can be given more than once.",
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 also when it cannot be excluded.")] = False,
    on: Annotated[
        str | None,
        typer.Option(
            help="What slower-than looks at: speedup (over its own plain, the default: blind to the machine's drift) "
            "or tokens_per_second."
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(help="Look at this arm only, or at best: each run's fastest. Can be given more than once."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for compare.json and compare.md.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> int:
    """Hold runs of edgespec bench against the first: what makes them incomparable, then what differs and how surely.

    Exit code 0: no --fail-if condition fails; 1: one does; 2: bad input, or a condition that cannot be looked at.
    """
    terminal = Terminal(json_output)
    stage = load_stage("bench.compare")
    gates, text = stage.gates, stage.telling
    conditions = [gates.parse_condition(words) for words in fail_if or ()]
    _check(len(runs), conditions, strict, on, gates.ON)
    if out is not None:
        _require_room(out)
    read = stage.read_run
    found = [read(path, _letter(place)) for place, path in enumerate(runs)]
    names = None if not arm or "best" in arm else arm
    for name in names or ():
        _require_arm(name, found)
    compare = stage.compare
    compared = [compare(found[0], other, names) for other in found[1:]]
    text.print_comparison(terminal, found, compared)
    pairs = [(found[0], other, one) for other, one in zip(found[1:], compared, strict=True)]
    refusal, findings = None, []
    try:
        findings = gates.judge(conditions, pairs, arms=arm or None, on=on or "speedup")
    except EdgespecError as error:  # the comparison itself is worth its files
        refusal = error
    document: dict[str, Any] = text.document(found, compared, findings, strict)
    if out is not None:
        out.mkdir(exist_ok=True)
        write_atomically(out / JSON, json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2) + "\n")
        write_atomically(out / MARKDOWN, text.comparison_markdown(found, compared, findings, strict))
        terminal.say(f"written: {out / JSON}, {out / MARKDOWN}")
    if refusal is not None:
        raise refusal
    if findings:
        text.print_findings(terminal, findings, strict)
        terminal.say(text.findings_summary(findings, strict))
    terminal.answer(document)
    return 1 if document["failed"] else 0


def _check(count: int, conditions: list[Any], strict: bool, on: str | None, allowed: tuple[str, ...]) -> None:
    if count < 2:
        raise EdgespecError("compare needs two runs at least: edgespec compare A B, A being what B is held against")
    if on is not None and on not in allowed:
        raise EdgespecError(f"--on got '{on}'; choose from {', '.join(allowed)}")
    if on is not None and not any(condition.kind == "slower-than" for condition in conditions):
        raise EdgespecError("--on says what slower-than looks at; add --fail-if slower-than 0.95, or leave --on out")
    if strict and not conditions:
        raise EdgespecError("--strict is for --fail-if; add a condition, or leave --strict out")


def _require_room(out: Path) -> None:
    require_folder(out.absolute().parent, out.name)
    if out.exists() and not out.is_dir():
        require_absent(out)
    for name in (JSON, MARKDOWN):
        require_absent(out / name)


def _require_arm(name: str, runs: list[Any]) -> None:
    for one in runs:
        if one.arm(name) is None:
            there = ", ".join(str(item["name"]) for item in one.report["arms"])
            raise EdgespecError(f"--arm got '{name}', which run {one.letter} does not have; it has {there}")


def _letter(place: int) -> str:
    """A, B, ... Z, then A1, B1, ..."""
    return chr(ord("A") + place % 26) + (str(place // 26) if place >= 26 else "")
