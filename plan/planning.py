"""The plan: twins are made where they are not there, measured within a time, and what they show is put together.

Every measurement is a row (rows.py); a run that was interrupted finds them and goes on. Which points are fitted to and
which are held back is fixed here, beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from edgespec.engine.passes import PASSES
from edgespec.errors import EdgespecError
from edgespec.progress import SILENT, Progress
from edgespec.resources import require_memory

from .cycle import draft_cycle, target_cycle
from .pace import EVERY, Pace, pace_of, steady
from .rows import Rows
from .session import CHAINS, CONTEXT, LENGTHS, Machine, Runner
from .step_model import Answer, Point, StepModel, Timed, compared, fitted
from .store import Makers, Store, TwinSpec
from .tokenizer import synthetic_vocabulary
from .turns import steps_of
from .walks import ALPHAS, Walks
from .weigh import Weighed

FIT_AT = ((0.7, 1), (0.7, 4))
HELD_BACK = (
    (0.8, 3), (0.6, 2), (0.9, 5), (0.5, 1), (0.8, 2), (0.6, 3), (0.95, 6), (0.5, 2), (0.9, 3), (0.8, 5),
)  # fmt: skip
"""(alpha, gamma), most telling first, since the last ones go where time is short."""
FEWEST_HELD_BACK = 3
ROUNDS = 4
"""At most, and fewer where time is short: each point is measured again in every round, at another moment."""
LEAST_PAIRS, MOST_PAIRS = 3, 8
"""Of turns with the draft and without, in an answer."""
_DEARER = 1.3
"""What a step of both kinds takes on average, in plain ones."""
_PROMPT_STEPS = 8
"""About what a run's prompt takes, in steps: it is as long as the context that passes are timed behind."""
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
    answers: Sequence[Answer]
    """At one pace of the machine."""
    pace: Pace


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
    work = _Work(request, store, machine, rows, Walks(request.target.vocab), progress, clock)
    until = clock() + 60 * request.minutes
    work.try_settings(folders, until - clock())
    chosen, trials = _chosen(request, rows)
    for number, spec in enumerate(request.drafts):
        share_s = max(0.0, until - clock()) / (len(request.drafts) - number)
        work.measure_draft(spec, chosen, folders, share_s)
    weighed = _weighed(rows.get(("target", chosen)))
    return Measured(request.target, weighed, chosen, trials, [_draft(spec, chosen, rows) for spec in request.drafts])


def _needed(request: Request, rows: Rows) -> list[TwinSpec]:
    """The twins that something is still to be measured with, the target first."""
    if any(("target", name) not in rows for name in request.settings):
        return [request.target, *request.drafts]
    chosen, _ = _chosen(request, rows)
    drafts = [spec for spec in request.drafts if ("done", spec.folder_name, chosen) not in rows]
    return [request.target, *drafts] if drafts else []


def _chosen(request: Request, rows: Rows) -> tuple[str, dict[str, float]]:
    """The settings under which a plain pass is fastest, and what it took under each."""
    trials = {name: _weighed(rows.get(("target", name))).passes[1] for name in request.settings}
    fastest = min(trials, key=lambda name: trials[name])
    if "default" in trials and trials["default"] < trials[fastest] * MARGIN:
        fastest = "default"
    return fastest, trials


def _weighed(row: Mapping[str, Any]) -> Weighed:
    return Weighed(row["load_s"], row["rss_bytes"], {int(n): seconds for n, seconds in row["passes"].items()})


def schedule(passes: StepModel, left_s: float) -> tuple[int, list[tuple[float, int]]]:
    """Pairs of turns in an answer, and the points of a round: as many and as long as the time allows with the passes
    that are timed between the turns, never fewer than those that are fitted to and FEWEST_HELD_BACK others.

    passes: of LENGTHS."""

    def timing_s(lengths: Collection[int]) -> float:
        drafted_s = sum(passes.draft[n - 1] for n in lengths if n > 1)
        return PASSES * (sum(passes.target[n] for n in lengths) + drafted_s)

    def all_s(answers: int, rounds: int, pairs: int) -> float:
        prompt_s = _PROMPT_STEPS * passes.target[1]
        answer_s = prompt_s + _DEARER * steps_of(pairs) * passes.target[1]
        long_s = timing_s(set(LENGTHS) - set(CHAINS))
        timings_s = ceil(answers / EVERY) * (prompt_s + timing_s(CHAINS)) + long_s
        return (1 + rounds * answers) * answer_s + (1 + rounds) * timings_s  # one answer more is the warm-up

    for held_back, rounds in product(range(len(HELD_BACK), FEWEST_HELD_BACK - 1, -1), range(ROUNDS, 1, -1)):
        answers = len(FIT_AT) + held_back
        if all_s(answers, rounds, LEAST_PAIRS) <= left_s:
            break
    fitting = [pairs for pairs in range(LEAST_PAIRS, MOST_PAIRS + 1) if all_s(answers, rounds, pairs) <= left_s]
    return max(fitting, default=LEAST_PAIRS), [*FIT_AT, *HELD_BACK[:held_back]]


@dataclass(frozen=True)
class _Work:
    """What measuring takes; each method adds the rows that are not there yet."""

    request: Request
    store: Store
    machine: Machine
    rows: Rows
    walks: Walks
    progress: Progress
    clock: Callable[[], float]

    def try_settings(self, folders: Mapping[str, Path], left_s: float) -> None:
        """A plain pass of the target under each of the settings, each in a process of its own."""
        budget_s = min(20.0, 0.15 * left_s / len(self.request.settings))
        for name, settings in self.request.settings.items():
            if ("target", name) not in self.rows:
                folder = folders[self.request.target.folder_name]
                with self.progress.task(f"loading the target's twin, settings {name}"):
                    found = self.machine.weigh(folder, settings, (1, 4), budget_s, draft=False)
                self.rows.add(("target", name), asdict(found))

    def measure_draft(self, spec: TwinSpec, chosen: str, folders: Mapping[str, Path], share_s: float) -> None:
        """Memory, then answers in rounds, as far as the time goes."""
        key, rows, request = spec.folder_name, self.rows, self.request
        if ("done", key, chosen) in rows:
            return
        until = self.clock() + share_s
        settings = request.settings[chosen]
        if ("weighed", key, chosen) not in rows:
            with self.progress.task(f"loading the draft's twin {spec.name}"):
                found = self.machine.weigh(folders[key], settings, (1,), min(5.0, 0.1 * share_s), draft=True)
            rows.add(("weighed", key, chosen), asdict(found))
        root = self.store.folder
        pair = self.store.pair(root / request.target.folder_name, root / key)
        with self.progress.task(f"loading {request.target.name} with {spec.name}"):
            runner = self.machine.open(pair, settings)
        try:
            if ("schedule", key, chosen) not in rows:
                with self.progress.task(f"timing passes of {request.target.name} and {spec.name}"):
                    passes = runner.passes(LENGTHS)
                rows.add(("schedule", key, chosen), schedule(passes, max(0.0, until - self.clock())))
            self._decode(key, chosen, runner, until)
            rows.add(("done", key, chosen), True)
        finally:
            runner.close()

    def _decode(self, key: str, chosen: str, runner: Runner, until: float) -> None:
        """The first round is gone through whatever the time, further ones as far as it goes. Passes are timed in the
        first of EVERY answers, long ones in the first of a round alone, for they are dear and only trees'."""
        pairs, points = self.rows.get(("schedule", key, chosen))
        warm = False
        with self.progress.task(f"decoding at {len(points)} points", total=ROUNDS * len(points)) as task:
            for number in range(ROUNDS):
                order = np.random.default_rng([number, 14]).permutation(len(points)).tolist()
                for at, index in enumerate(order):
                    row = ("answer", key, chosen, number, at)
                    if row not in self.rows:
                        if number and self.clock() > until:
                            return
                        alpha, gamma = points[index]
                        walk = self.walks.by_turns(alpha, gamma, pairs, context=CONTEXT, seed=number)
                        lengths = () if at % EVERY else CHAINS if at else LENGTHS
                        if not warm:
                            runner.answer(walk, alpha, gamma, LENGTHS)
                            warm = True
                        self.rows.add(row, asdict(runner.answer(walk, alpha, gamma, lengths)))
                    task.advance()


def _answers(rows: Rows, key: str, chosen: str) -> list[Answer]:
    return [
        Answer(Timed(**row["speculative"]), Timed(**row["plain"]), row["passes"] and _passes(row["passes"]))
        for row in rows.under("answer", key, chosen)
    ]


def _passes(row: Mapping[str, Any]) -> StepModel:
    return StepModel(**{**row, "target": _by_tokens(row["target"]), "draft": _by_tokens(row["draft"])})


def _by_tokens(times: Mapping[str, float]) -> dict[int, float]:
    return {int(n): seconds for n, seconds in times.items()}


def _draft(spec: TwinSpec, chosen: str, rows: Rows) -> Draft:
    key = spec.folder_name
    measured = _answers(rows, key, chosen)
    answers = steady(measured)
    model = fitted(answers, FIT_AT)
    points = compared(model, answers, FIT_AT)
    return Draft(spec, _weighed(rows.get(("weighed", key, chosen))), model, points, answers, pace_of(measured))
