"""The measurement: settings trial, warm-up, rounds of blocks until enough is known, meters. Killed, it goes on."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from statistics import median
from typing import Any

from edgespec.engine.step import Generation
from edgespec.errors import EdgespecError
from edgespec.machine import on_battery
from edgespec.pair import Pair
from edgespec.progress import Progress, Task
from edgespec.sampling import GREEDY, Sampling

from . import calibration
from .cases import Case, PromptBook, cases_of
from .control import EXACT_CASES, EXACT_TOKENS, exact_arms, first_differences
from .disturbance import RETRIES, RETRY_SHARE, Watch
from .engines import Backend, EnginePool
from .isolation import EngineFailed, EngineLost
from .plan import REFERENCE, Arm, kind_of, measured_arms, settings_arms
from .prompts import Suite, spread
from .report import settings_choice
from .rows import Bandwidth, Gap, Header, Journal, Passes, Row, Sameness, Session, Stop, latest_rows
from .schedule import Block, blocks
from .stopping import Limits, enough, spent

WARM_UP_CASES = 2
PASS_LENGTHS = (1, 2, 3, 4, 6, 8)
PASS_CONTEXT = 256
"""Tokens in front of a timed pass where the run's own prompts are not known (nothing was answered)."""


class Measurement:
    """The state of a run: its engines and its journal. `run` measures what the journal lacks."""

    def __init__(
        self, pair: Pair, suite: Suite, header: Header, backend: Backend, journal: Journal, progress: Progress
    ) -> None:
        self.pair, self.suite, self.header, self.backend = pair, suite, header, backend
        self.journal, self.progress = journal, progress
        self.pool = EnginePool(pair, header.device, backend.open_engine)
        self.sensors = backend.sensors()
        self.watch = Watch()
        self.cases = cases_of(suite.prompts, header.contexts)
        self.book = PromptBook(suite.prompts)
        self.limits = Limits(header.precision, header.max_repetitions, header.budget_s)
        self.began = False
        self.saved_loads = 0
        self.retries_left = max(2, int(RETRY_SHARE * len(self.cases) * header.repetitions))

    def run(self) -> None:
        header = self.header
        try:
            if header.settings == "auto":
                self._try_settings()
            choice = settings_choice(self.journal.lines)
            self.progress.say(f"Settings for every arm: {choice.name} ({choice.reason})")
            arms = measured_arms(header, choice.name)
            self.pool.keep(arms)
            if not any(isinstance(line, Stop) and line.complete for line in self.journal.lines):
                self._measure(arms)
            reference = next(arm for arm in arms if arm.name == REFERENCE)
            if header.sameness and not header.sampling:
                self._check_sameness(arms, reference)
            self.pool.close()
            self._meter_bandwidth()
            if not any(isinstance(line, Passes) for line in self.journal.lines):
                self._meter_passes(reference, arms, 0)
        finally:
            self.pool.close()

    def _try_settings(self) -> None:
        arms = settings_arms(self.header.candidates)
        first = {case.prompt: case for case in reversed(self.cases) if case.turn == 1}
        cases = [first[prompt.id] for prompt in calibration.trial_prompts(self.suite.prompts)]
        schedule = [
            block
            for repetition in range(calibration.TRIAL_REPETITIONS)
            for block in blocks("settings", arms, cases, repetition, self.header.seed)
        ]
        todo = self._missing(schedule)
        if not todo or len(arms) < 2:
            return
        tokens = min(calibration.TRIAL_TOKENS, self.header.max_new_tokens)
        with self.progress.task(f"trying {len(arms)} plugin settings", total=len(todo) * len(arms)) as task:
            self._warm_up(arms, tokens)
            for block in todo:
                self._measure_block(block, tokens, task)

    def _measure(self, arms: Sequence[Arm]) -> None:
        """Rounds over all cases until `enough` says so; at least one is always whole."""
        header = self.header
        reference = next(arm for arm in arms if arm.name == REFERENCE)
        contenders = [arm.name for arm in arms if arm.name != REFERENCE and not arm.plain]
        repetition = 0
        while True:
            schedule = blocks("measure", arms, self.cases, repetition, header.seed)
            todo = self._missing(schedule)
            if todo:
                count = len(self.cases)
                title = f"round {repetition + 1}: {len(arms)} arms on {count} prompts"
                with self.progress.task(title, total=len(todo) * len(arms)) as task:
                    self._start_anew(arms, repetition)
                    self._converse(reference)
                    for block in todo:
                        self._measure_block(block, header.max_new_tokens, task)
            self._meter_passes(reference, arms, repetition)
            repetition += 1
            if repetition < header.repetitions:
                continue
            rows = [row for row in latest_rows(self.journal.lines, "measure") if row.repetition < repetition]
            decision = enough(
                rows,
                contenders,
                [case.id for case in self.cases],
                self.limits,
                spent_s=spent(self.journal.lines),
            )
            if not decision.go_on or repetition >= header.max_repetitions:
                self.journal.append(Stop(repetitions=repetition, reason=decision.reason))
                return

    def _start_anew(self, arms: Sequence[Arm], repetition: int) -> None:
        """Every round in fresh processes, started in a random order: luck that stays with a process is drawn again."""
        self.pool.close()
        if self.began:
            self.warm.clear()
        order = random.Random(f"{self.header.seed}/start/{repetition}").sample(list(arms), len(arms))
        self._warm_up(order, self.header.max_new_tokens)

    def _check_sameness(self, arms: Sequence[Arm], reference: Arm) -> None:
        """Every engine once under exact settings, plain in a batch, and the logit gap of each difference."""
        checked = exact_arms(arms)
        first = {case.prompt: case for case in reversed(self.cases) if case.turn == 1}
        cases = [first[prompt.id] for prompt in spread(self.suite.prompts, EXACT_CASES)]
        todo = self._missing(blocks("exact", checked, cases, 0, self.header.seed))
        tokens = min(EXACT_TOKENS, self.header.max_new_tokens)
        if len(checked) > 1 and todo:
            self.pool.keep(checked)
            with self.progress.task("the same answers in f32?", total=len(todo) * len(checked)) as task:
                for block in todo:
                    self._measure_block(block, tokens, task)
        if any(isinstance(line, Sameness) and line.error is None for line in self.journal.lines):
            return
        rows = latest_rows(self.journal.lines, "measure")
        if any(row.tokens for row in rows):
            reading = next(arm for arm in checked if arm.name == REFERENCE)
            with self.progress.task("plain in a batch, the control", total=1):
                self.journal.append(self._control(rows, reference, reading))

    def _control(self, rows: Sequence[Row], reference: Arm, reading: Arm) -> Sameness:
        """reading: the arm whose engine turns prompts into tokens."""
        own = {row.case: row for row in rows if row.arm == REFERENCE and row.repetition == 0 and row.tokens}
        if self.backend.answer_together is None or self.backend.logit_gaps is None or not own:
            return Sameness()
        try:
            engine = self.pool.get(reading)
            ids = {case.id: self.book.ids(case, engine) for case in self.cases if case.id in own}
            device = self.header.device
            answers = self.backend.answer_together(
                self.pair,
                device=device,
                settings=dict(reference.settings),
                prompts=list(ids.values()),
                max_new_tokens=self.header.max_new_tokens,
            )
            matched = sum(own[case].token_ids == answer for case, answer in zip(ids, answers, strict=True))
            found = first_differences(rows)
            gaps = self.backend.logit_gaps(
                self.pair,
                device=device,
                places=[
                    (ids[row.case], plain.token_ids[:place], plain.token_ids[place], row.token_ids[place])
                    for row, plain, place in found
                ],
            )
        except Exception as error:
            return Sameness(error=_sentence(error))
        return Sameness(
            control_matched=matched,
            control_total=len(ids),
            gaps=[
                Gap(arm=row.arm, case=row.case, position=place, logit_gap=gap)
                for (row, _, place), gap in zip(found, gaps, strict=True)
            ],
        )

    def _missing(self, schedule: Iterable[Block]) -> list[Block]:
        """Blocks that are not whole: one that was cut short is measured again, so that its arms stay seconds apart."""
        done = {line.key for line in self.journal.lines if isinstance(line, Row) and line.error is None}
        return [
            block
            for block in schedule
            if any((block.phase, block.case.id, arm.name, block.repetition) not in done for arm in block.arms)
        ]

    def _warm_up(self, arms: Sequence[Arm], max_new_tokens: int) -> None:
        """Load every engine and let every arm answer once or twice; plain decoding has to work."""
        if not self._begin_session(arms):
            return
        for repetition, case in enumerate([case for case in self.cases if case.turn == 1][:WARM_UP_CASES]):
            for order, arm in enumerate(arms):
                row = self._answer("warmup", case, arm, repetition, order, max_new_tokens)
                if row.error and arm.settings_name == "default" and arm.plain:
                    raise EdgespecError(f"plain decoding does not work on {self.header.device}: {row.error}")
                if row.error and arm.name == REFERENCE:
                    raise EdgespecError(f"plain decoding with the settings '{arm.settings_name}' fails: {row.error}")

    def _begin_session(self, arms: Sequence[Arm]) -> bool:
        """Whether `arms` have not been warmed up in this process; the first time, a session begins."""
        if not self.began:
            self.journal.append(Session(session=self.journal.session, started_at=now(), on_battery=on_battery()))
            self.began = True
            self.warm: set[str] = set()
        cold = {arm.name for arm in arms} - self.warm
        self.warm |= cold
        return bool(cold)

    def _converse(self, reference: Arm) -> None:
        """Plain's answers to the turns that a later turn stands behind; made once a run, the same for every arm."""
        for row in self.journal.rows("history"):
            if row.error is None:
                self.book.answers[row.prompt, row.turn] = row.token_ids
        turns = {prompt.id: len(prompt.turns) for prompt in self.suite.prompts}
        for case in cases_of(self.suite.prompts):
            if case.turn == turns[case.prompt] or (case.prompt, case.turn) in self.book.answers:
                continue
            row = self._answer("history", case, reference, 0, 0, self.header.max_new_tokens)
            if row.error is None:
                self.book.answers[case.prompt, case.turn] = row.token_ids

    def _measure_block(self, block: Block, max_new_tokens: int, task: Task) -> None:
        """Every arm once; again, when something else disturbed one of them and there are retries left."""
        for attempt in range(RETRIES + 1):
            rows = []
            for order, arm in enumerate(block.arms):
                row = self._answer(block.phase, block.case, arm, block.repetition, order, max_new_tokens, attempt)
                rows.append(row)
                if attempt == 0:
                    task.advance()
            spoilt = block.phase == "measure" and any(row.disturbed for row in rows)
            if not spoilt or attempt == RETRIES or not self.retries_left:
                return
            self.retries_left -= 1
            self.backend.settle()

    def _answer(
        self, phase: Any, case: Case, arm: Arm, repetition: int, order: int, max_new_tokens: int, attempt: int = 0
    ) -> Row:
        """Measure one row and append it. An exception of the engine is the row's error; Ctrl-C passes through."""
        where: dict[str, Any] = {
            "phase": phase,
            "case": case.id,
            "prompt": case.prompt,
            "category": case.category,
            "turn": case.turn,
            "context": case.context,
            "arm": arm.name,
            "repetition": repetition,
            "order": order,
            "attempt": attempt,
            "session": self.journal.session,
            "started_at": now(),
        }
        try:
            engine = self.pool.get(arm)
            self._save_loads()
            ids = self.book.ids(case, engine)
            self.sensors.start(getattr(engine, "pid", None))
            generation = engine.generate(ids, max_new_tokens, sampling=self._sampling(case, repetition), **arm.options)
            reading = self.sensors.stop()
            row = Row(
                **where,
                **_figures(generation),
                **vars(reading),
                prompt_tokens=len(ids),
                peak_rss_bytes=getattr(engine, "peak_rss_bytes", None),
                disturbed=self.watch.judge(reading),
            )
        except EngineLost as error:
            self.pool.lost(arm, error)
            row = Row(**where, error=str(error))
        except Exception as error:
            row = Row(**where, error=_sentence(error))
        self.journal.append(row)
        return row

    def _sampling(self, case: Case, repetition: int) -> Sampling:
        """The run's sampling; where it draws, with a seed of the case and repetition that every arm shares."""
        if not self.header.sampling:
            return GREEDY
        sampling = Sampling(**self.header.sampling)
        seed = zlib.crc32(f"{self.header.seed}/{case.id}/{repetition}".encode())
        return replace(sampling, seed=seed)

    def _save_loads(self) -> None:
        for load in self.pool.loads[self.saved_loads :]:
            self.journal.append(load)
        self.saved_loads = len(self.pool.loads)

    def _meter_bandwidth(self) -> None:
        done = any(isinstance(line, Bandwidth) and line.error is None for line in self.journal.lines)
        if done or self.backend.measure_bandwidth is None:
            return
        with self.progress.task("timing the memory", total=1):
            try:
                line = Bandwidth(bytes_per_second=self.backend.measure_bandwidth(self.header.device))
            except Exception as error:
                line = Bandwidth(error=_sentence(error))
        self.journal.append(line)

    def _meter_passes(self, plain: Arm, arms: Sequence[Arm], repetition: int) -> None:
        """Single passes of target and draft, for v(n) and c, after every round: the machine's speed then is in both.
        The round's engines are closed, so nothing else is in memory. A failure is written down, once, and the report
        does without."""
        drafting = any(arm.gamma is not None or arm.threshold is not None for arm in arms)
        drafting &= not any(kind_of(arm).head for arm in arms)  # a head runs only inside its target: no c of its own
        wanted = {"target"} | ({"draft"} if drafting and self.pair.draft else set())
        before = [line for line in self.journal.lines if isinstance(line, Passes)]
        done = {line.role for line in before if line.repetition == repetition or line.error is not None}
        if all(arm.plain for arm in arms) or wanted <= done or self.backend.measure_costs is None:
            return
        self.pool.close()
        header = self.header
        device = header.draft_devices[0] if header.draft_devices else header.device
        context = self._usual_context()
        with self.progress.task("timing single passes", total=1):
            costs: Any = {}
            problem = None
            try:
                costs = self.backend.measure_costs(
                    self.pair,
                    device=header.device,
                    draft_device=device,
                    settings=dict(plain.settings),
                    lengths=sorted({*PASS_LENGTHS, *(gamma + 1 for gamma in header.gammas)}),
                    drafting="draft" in wanted,
                    context=context,
                )
            except Exception as error:
                problem = _sentence(error)
        for role in sorted(wanted, reverse=True):
            self.journal.append(
                Passes(
                    role=role,
                    device=header.device if role == "target" else device,
                    settings=plain.settings_name,
                    context=context,
                    seconds=dict(costs.get(role, {})),
                    error=problem,
                    repetition=repetition,
                    in_a_row=True,
                )
            )

    def _usual_context(self) -> int:
        """Where the run's answers stood in the median: behind their prompt and half of themselves."""
        rows = [row for row in latest_rows(self.journal.lines, "measure") if row.prompt_tokens and row.tokens]
        return round(median((row.prompt_tokens or 0) + (row.tokens or 0) / 2 for row in rows)) if rows else PASS_CONTEXT


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _figures(generation: Generation) -> dict[str, Any]:
    steps = generation.steps

    def total(seconds: Sequence[float | None]) -> float | None:
        known = [value for value in seconds if value is not None]
        return sum(known) if known and len(known) == len(seconds) else None

    return {
        "wall_s": generation.wall_s,
        "ttft_s": generation.ttft_s,
        "tokens": len(generation.token_ids),
        "token_ids": list(generation.token_ids),
        "emitted": [len(step.tokens) for step in steps],
        "proposed": [step.proposed for step in steps],
        "accepted": [step.accepted for step in steps],
        "draft_s": total([step.draft_s for step in steps[1:]]),
        "verify_s": total([step.verify_s for step in steps[1:]]),
        "finish_reason": generation.finish_reason,
    }


def _sentence(error: Exception) -> str:
    """The first line of an error; the class is named where it is not one of our own sentences."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    return text if isinstance(error, (EdgespecError, EngineFailed)) else f"{type(error).__name__}: {text}"
