"""edgespec tune PAIR"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from ..console import Terminal
from ..errors import EdgespecError
from ..pair import Pair
from ..profile import save_profile
from ..settings import describe
from ..stages import load_stage
from ..tuning import Bounds, Options, Plan, Search, Tuned, plan
from ..tuning.modes import GAMMAS, THRESHOLDS
from ..tuning.racing import NO_TIME

BOUNDS = Bounds()
Number = TypeVar("Number", int, float)


def run(
    pair: Annotated[Path, typer.Argument(help="A pair directory.")],
    device: Annotated[str, typer.Option(help="CPU, GPU, NPU, ... (see: edgespec devices)")] = "CPU",
    draft_device: Annotated[
        str | None, typer.Option(help="Devices to try the draft on, e.g. CPU,GPU; unless given, the target's.")
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            help="Your own prompts, a JSONL file, or a suite (see: edgespec prompts list); unless given, a quick one."
        ),
    ] = None,
    gamma: Annotated[str, typer.Option(help="Tokens the draft proposes a step.")] = ",".join(map(str, GAMMAS)),
    threshold: Annotated[
        str, typer.Option(help="Confidences down to which the draft proposes, instead of a gamma.")
    ] = ",".join(map(str, THRESHOLDS)),
    budget_minutes: Annotated[float, typer.Option(help="Time it may take; it ends sooner once all is known.")] = 10.0,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of an answer at most.")] = 64,
    least_agreement: Annotated[
        float, typer.Option(help="Share of tokens that settings must choose as exact arithmetic does.")
    ] = BOUNDS.least_top1_agreement,
    most_kl: Annotated[
        float, typer.Option(help="How far settings may move the model's distribution: mean KL in nats a token.")
    ] = BOUNDS.most_kl_nats,
    seed: Annotated[int, typer.Option(help="Seed of the order of measurement.")] = 0,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Say what would be tried and how long it takes, and stop.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document: the profile.")] = False,
) -> None:
    """Find the fastest way to run a pair on a device of this machine, and write it into the pair as a profile.

    Plugin settings, modes, gammas and draft devices are raced in interleaved rounds. Settings that change what the
    model says by more than the bounds are not used. Plain decoding may win. SpecPipeline runs the profile, and the
    bench measures it as the arms tuned and auto. Stopped half-way (Ctrl-C), it leaves the pair as it was and keeps what
    it measured: the same command goes on from there.
    """
    terminal = Terminal(json_output)
    options = Options(
        device=device,
        draft_devices=tuple(name.strip().upper() for name in draft_device.split(",")) if draft_device else (),
        gammas=_numbers("--gamma", gamma, int, "1,2,3,5"),
        thresholds=_numbers("--threshold", threshold, float, "0.3,0.5"),
        budget_s=budget_minutes * 60,
        max_new_tokens=max_new_tokens,
        bounds=Bounds(least_agreement, most_kl),
        seed=seed,
    )
    opened = Pair.open(pair)
    search = Search(opened, load_stage("bench").workshop(opened, prompts), options, terminal)
    if plan_only:
        planned = plan(search)
        _print_plan(terminal, planned)
        terminal.answer({**asdict(planned), "enough": planned.enough})
        return
    tuned = search.run()
    _print_tuned(terminal, tuned)
    written = save_profile(pair, tuned.profile)
    if written.parent != pair:
        terminal.say(
            f"'{pair}' may not be written to, so the profile is kept for you alone; SpecPipeline finds it there"
        )
    terminal.say(f"written to: {written.resolve()}")
    terminal.answer(tuned.profile.model_dump(mode="json"))


def _numbers(option: str, text: str, kind: Callable[[str], Number], example: str) -> tuple[Number, ...]:
    try:
        return tuple(sorted({kind(part) for part in text.split(",")}))
    except ValueError as error:
        raise EdgespecError(f"{option} got '{text}'; give numbers, such as {option} {example}") from error


def _print_plan(terminal: Terminal, planned: Plan) -> None:
    terminal.table(
        f"What a tune on {planned.device} would try, with {planned.prompt_count} prompts of {planned.prompts}",
        ["part", "tries", "seconds"],
        [[part.name, ", ".join(part.tries), f"{part.least_s:.0f} to {part.most_s:.0f}"] for part in planned.parts],
    )
    for sentence in planned.left_out:
        terminal.say(f"left out: {sentence}")
    terminal.say(f"Measured just now: {planned.load_s:.1f} s to load an engine, {planned.answer_s:.2f} s an answer.")
    terminal.say(
        f"It ends after {planned.budget_s / 60:.3g} minutes at the latest"
        + ("." if planned.enough else ", which is too short to look at everything: the least promising is left out.")
    )


def _print_tuned(terminal: Terminal, tuned: Tuned) -> None:
    shown = [item for item in tuned.tried if item.outcome != NO_TIME]
    for part in dict.fromkeys(item.part for item in shown):  # one each: five columns fit a narrow terminal
        terminal.table(
            f"What was tried: {part}",
            ["arm", "settings", "of plain", "tok/s", "outcome"],
            [
                [
                    item.name,
                    item.settings_name,
                    "-" if item.ratio is None else f"{item.ratio:.2f}x",
                    "-" if item.tokens_per_second is None else f"{item.tokens_per_second:.1f}",
                    "failed" if item.outcome.startswith("failed") else item.outcome,
                ]
                for item in shown
                if item.part == part
            ],
        )
    for item in tuned.tried:
        if item.outcome.startswith("failed"):
            terminal.say(f"{item.name} [{item.settings_name}] {item.outcome}")
    for name, properties in {item.settings_name: item.settings for item in tuned.tried if item.settings}.items():
        terminal.say(f"{name} is {describe(properties)}")
    if skipped := [f"{item.name} [{item.settings_name}]" for item in tuned.tried if item.outcome == NO_TIME]:
        terminal.say(f"{NO_TIME} (--budget-minutes gives more): {', '.join(dict.fromkeys(skipped))}")
    for sentence in tuned.left_out:
        terminal.say(f"left out: {sentence}")
    for name, score in tuned.scores.items():
        terminal.say(f"{name}: {score.sentence()}")
    profile = tuned.profile
    if profile.over_default is not None:
        found = profile.over_default
        interval = " ({:.2f} to {:.2f})".format(*found.ci95) if found.ci95 else ""
        terminal.say(f"Over the untouched default: {found.geomean:.2f}x{interval}")
    terminal.say(f"It ended after {profile.seconds:.0f} s because {profile.stopped_because}.")
    terminal.say(f"Tuned: {profile.sentence()}; {profile.tokens_per_second:.1f} tokens/s.")
