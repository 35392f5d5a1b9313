"""The plan: twins are made where they are not there, measured within a time, and what they show is put together.

Every measurement is a row (rows.py); a run that was interrupted finds them and goes on. Which points are fitted to and
which are held back is fixed here, beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgespec.errors import EdgespecError
from edgespec.progress import SILENT, Progress
from edgespec.resources import require_memory

from .cycle import draft_cycle, target_cycle
from .rows import Rows
from .session import LENGTHS, Machine, Passes, Runner
from .step_model import Point, StepModel, Timed, compared, fitted
from .store import Makers, Store, TwinSpec
from .tokenizer import synthetic_vocabulary
from .walks import ALPHAS, Walks
from .weigh import Weighed

FIT_AT = ((0.7, 1), (0.7, 4))
HELD_BACK = (
    (0.8, 3), (0.6, 2), (0.9, 5), (0.5, 1), (0.8, 2), (0.6, 3), (0.95, 6), (0.5, 2), (0.9, 3), (0.8, 5),
)  # fmt: skip
"""(alpha, gamma), most telling first, since the last ones go where time is short."""
FEWEST_HELD_BACK = 3
ROUNDS = 2
LEAST_TOKENS, MOST_TOKENS = 24, 128
_PROMPT, _PROMPT_STEPS = 8, 2
"""Tokens of a run's prompt, which is in no time that is told, and about what it takes in steps."""
PASSES_SHARE = 0.25
MARGIN = 1.03
"""Settings must beat the default's plain pass by this factor."""
WORKING_BYTES = 800_000_000
"""Beside the weights: libraries, caches, buffers of a prompt."""


@dataclass(frozen=True)
class Request:
    """What is planned. settings: OpenVINO properties by name, tried on the target; a single one is taken untried.
    minutes: to measure in, building not counted."""

    target: TwinSpec
    drafts: Sequence[TwinSpec]
    device: str
    draft_device: str | None
    settings: Mapping[str, Mapping[str, Any]]
    minutes: float = 10.0


@dataclass(frozen=True)
class Draft:
    """One shape as it was measured."""

    spec: TwinSpec
    weighed: Weighed
    model: StepModel
    points: Sequence[Point]
    runs: Sequence[Timed]


@dataclass(frozen=True)
class Measured:
    """settings: the chosen ones by name, `trials` seconds of a plain pass by name."""

    target: TwinSpec
    weighed: Weighed
    settings: str
    trials: Mapping[str, float]
    drafts: Sequence[Draft]


def check(request: Request, store: Store, rows: Rows) -> None:
    """Refuse what cannot be done here, before anything is written: shapes, maps, disk, memory. What was measured
    already needs no twin any more."""
    target = request.target
    for spec in (target, *request.drafts):
        spec.layout  # noqa: B018  raises
    if not request.minutes > 0:
        raise EdgespecError(f"the minutes to measure in must be above 0, not {request.minutes:g}")
    vocabulary = synthetic_vocabulary(target.vocab)
    draft_cycle(target_cycle(vocabulary.live, target.vocab, target.seed), ALPHAS, target.seed)
    if needed := _needed(request, rows):
        store.require_room(needed)
        largest = max((draft.bytes for draft in request.drafts), default=0)
        need_bytes = round(1.15 * (target.bytes + largest)) + WORKING_BYTES
        require_memory(need_bytes, f"running a twin of '{target.name}' in {target.precision}")


def measure(
    request: Request,
    store: Store,
    makers: Makers,
    machine: Machine,
    rows: Rows,
    *,
    progress: Progress = SILENT,
    clock: Callable[[], float] = time.perf_counter,
) -> Measured:
    """Build, measure, and fit. Raises EdgespecError, most of it by `check`, which comes first."""
    check(request, store, rows)
    needed = _needed(request, rows)
    folders = {spec.folder_name: store.get(spec, makers, progress) / "target" for spec in needed}
    if needed:
        store.trim(needed, progress)
    until = clock() + 60 * request.minutes
    _try_settings(request, folders, machine, rows, progress, until - clock())
    chosen, trials = _chosen(request, rows)
    settings = request.settings[chosen]
    walks = Walks(request.target.vocab)
    for number, spec in enumerate(request.drafts):
        key, share = spec.folder_name, max(0.0, until - clock()) / (len(request.drafts) - number)
        if ("weighed", key, chosen) not in rows:
            with progress.task(f"loading the draft's twin {spec.name}"):
                found = machine.weigh(folders[key], settings, (1,), min(5.0, 0.1 * share), draft=True)
                rows.add(("weighed", key, chosen), asdict(found))
        _measure_draft(request, spec, store, settings, chosen, machine, rows, walks, share, progress, clock)
    weighed = _weighed(rows.get(("target", chosen)))
    return Measured(request.target, weighed, chosen, trials, [_draft(spec, chosen, rows) for spec in request.drafts])


def _needed(request: Request, rows: Rows) -> list[TwinSpec]:
    """The twins that something is still to be measured with, the target first."""
    if any(("target", name) not in rows for name in request.settings):
        return [request.target, *request.drafts]
    chosen, _ = _chosen(request, rows)
    drafts = [spec for spec in request.drafts if ("done", spec.folder_name, chosen) not in rows]
    return [request.target, *drafts] if drafts else []


def _try_settings(
    request: Request,
    folders: Mapping[str, Path],
    machine: Machine,
    rows: Rows,
    progress: Progress,
    left_s: float,
) -> None:
    """A plain pass of the target under each of the settings, each in a process of its own."""
    budget_s = min(20.0, 0.15 * left_s / len(request.settings))
    for name, settings in request.settings.items():
        if ("target", name) not in rows:
            with progress.task(f"loading the target's twin, settings {name}"):
                found = machine.weigh(folders[request.target.folder_name], settings, (1, 4), budget_s, draft=False)
                rows.add(("target", name), asdict(found))


def _chosen(request: Request, rows: Rows) -> tuple[str, dict[str, float]]:
    """The settings under which a plain pass is fastest, and what it took under each."""
    trials = {name: _weighed(rows.get(("target", name))).passes[1] for name in request.settings}
    fastest = min(trials, key=lambda name: trials[name])
    if "default" in trials and trials["default"] < trials[fastest] * MARGIN:
        fastest = "default"
    return fastest, trials


def _weighed(row: Mapping[str, Any]) -> Weighed:
    return Weighed(row["load_s"], row["rss_bytes"], {int(n): seconds for n, seconds in row["passes"].items()})


def _measure_draft(
    request: Request,
    spec: TwinSpec,
    store: Store,
    settings: Mapping[str, Any],
    chosen: str,
    machine: Machine,
    rows: Rows,
    walks: Walks,
    share_s: float,
    progress: Progress,
    clock: Callable[[], float],
) -> None:
    """Passes, then real runs in rounds, plain ones among them, as far as the time goes."""
    key = spec.folder_name
    if ("done", key, chosen) in rows:
        return
    root = store.folder
    pair = store.pair(root / request.target.folder_name, root / key)
    until = clock() + share_s
    with progress.task(f"loading {request.target.name} with {spec.name}"):
        runner = machine.open(pair, settings)
    try:
        if ("passes", key, chosen) not in rows:
            with progress.task(f"timing passes of {request.target.name} and {spec.name}, {len(LENGTHS)} lengths"):
                rows.add(("passes", key, chosen), asdict(runner.passes(PASSES_SHARE * share_s)))
        passes = _passes(rows.get(("passes", key, chosen)))
        _runs(key, chosen, passes, runner, rows, walks, max(0.0, until - clock()), progress, clock)
        rows.add(("done", key, chosen), True)
    finally:
        runner.close()


def schedule(pass_s: float, left_s: float) -> tuple[int, list[tuple[float, int]]]:
    """Tokens of an answer, and the points of a round: as many and as long as the time allows, never fewer than those
    that are fitted to and FEWEST_HELD_BACK others."""
    for held_back in range(len(HELD_BACK), FEWEST_HELD_BACK - 1, -1):
        answers = 3 + 0.55 * (len(FIT_AT) + held_back)  # in answers of plain decoding
        prompts = _PROMPT_STEPS * (3 + len(FIT_AT) + held_back)
        tokens = int((left_s / ROUNDS / pass_s - prompts) / answers)
        if tokens >= LEAST_TOKENS or held_back == FEWEST_HELD_BACK:
            break
    return min(MOST_TOKENS, max(LEAST_TOKENS, tokens)), [*FIT_AT, *HELD_BACK[:held_back]]


def _runs(
    key: str,
    chosen: str,
    passes: Passes,
    runner: Runner,
    rows: Rows,
    walks: Walks,
    left_s: float,
    progress: Progress,
    clock: Callable[[], float],
) -> None:
    until = clock() + left_s
    if (plan := rows.get(("schedule", key, chosen))) is None:
        tokens, points = schedule(passes.target[1], left_s)
        rows.add(("schedule", key, chosen), [tokens, points])
    else:
        tokens, points = plan
    with progress.task(f"decoding for real at {len(points)} points", total=ROUNDS * (len(points) + 3)) as task:
        for number in range(ROUNDS):
            draw = np.random.default_rng([number, 14])
            order = [tuple(points[index]) for index in draw.permutation(len(points))]
            third = -(-len(order) // 2)
            plain = [(0.7, 0)]
            for at, (alpha, gamma) in enumerate([*plain, *order[:third], *plain, *order[third:], *plain]):
                row = ("run", key, chosen, number, at)
                if row not in rows:
                    if number and clock() > until:
                        return
                    walk = walks.chosen(alpha, max(gamma, 1), tokens, context=_PROMPT, seed=number)
                    if number == 0 and at == 0:
                        runner.run(walk, alpha, gamma)  # warm-up
                    rows.add(row, asdict(runner.run(walk, alpha, gamma)))
                task.advance()


def _passes(row: Mapping[str, Any]) -> Passes:
    return Passes(
        {int(n): seconds for n, seconds in row["target"].items()},
        {int(n): seconds for n, seconds in row["draft"].items()},
        row["wide"],
    )


def _draft(spec: TwinSpec, chosen: str, rows: Rows) -> Draft:
    key = spec.folder_name
    passes = _passes(rows.get(("passes", key, chosen)))
    runs = [Timed(**row) for row in rows.under("run", key, chosen)]
    fit = [run for run in runs if not run.gamma or (run.alpha, run.gamma) in FIT_AT]
    model = fitted(StepModel(passes.target, passes.draft, passes.wide), fit)
    return Draft(spec, _weighed(rows.get(("weighed", key, chosen))), model, compared(model, runs, FIT_AT), runs)
