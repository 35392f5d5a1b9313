"""Engines and the stopwatch: arms answer the same prompts in interleaved blocks, in as many heats as memory asks for.

In a block the reference and every arm of the heat answer one prompt, seconds apart, in random order. What is kept of an
arm is its lead over the reference of the same block, so arms of different heats can be held against one another.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

from ..arms import Arm
from ..engine.contract import Engine
from ..errors import EdgespecError
from ..pair import Pair
from ..progress import Task
from .record import Answer, Record
from .world import Ask, World

MEMORY_MARGIN = 1.25
"""An engine is loaded beside others only where so many times the hungriest one so far is free."""
RETRIES = 6
"""How many disturbed blocks of a tune are measured again; a machine that is never quiet is measured as it is."""
Lead = Callable[[Arm, Ask, float], None]
"""Takes the arm's log lead over the reference on that prompt."""
Failure = Callable[[Arm, str], None]


class TimeIsUp(Exception):
    """The deadline passed; what was measured is kept."""


@dataclass
class Timing:
    """What answers and loads of this tune last, in seconds."""

    answers: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)

    @property
    def answer_s(self) -> float:
        return fmean(self.answers) if self.answers else 0.0

    @property
    def load_s(self) -> float:
        """Of one engine, its warm-up included."""
        return fmean(self.loads) if self.loads else 0.0


class Track:
    """Where arms run. Engines stay loaded until `keep` or a lack of memory closes them; `close` closes all."""

    def __init__(self, world: World, pair: Pair, device: str, max_new_tokens: int, seed: int) -> None:
        self.world, self.pair, self.device = world, pair, device
        self.max_new_tokens = max_new_tokens
        self.began, self.budget_s = world.clock(), math.inf
        self.deadline = math.inf
        self.timing = Timing()
        self.rates: dict[str, dict[str, list[float]]] = {}
        self.paces: dict[str, list[tuple[float, int]]] = {}
        self.answers: dict[tuple[str, str], list[int]] = {}
        self.warm_up: Ask | None = None
        self.record = Record()
        self._engines: dict[tuple[str, ...], Engine] = {}
        self._hungriest = 0
        self._retries = RETRIES
        self._draw = random.Random(f"{seed}/tune")
        self._watch = world.watch()

    def engine(self, arm: Arm) -> Engine:
        """The arm's engine, loaded and warmed up. Raises EdgespecError."""
        if arm.engine_key not in self._engines:
            free = self.world.free_memory()
            started = self.world.clock()
            engine = self.world.open_engine(
                self.pair,
                engine=arm.engine,
                device=self.device,
                draft_device=arm.draft_device,
                mode=arm.mode,
                settings=arm.settings,
            )
            self._engines[arm.engine_key] = engine
            if self.warm_up is not None:
                try:
                    engine.generate(list(self.warm_up.ids), self.max_new_tokens, **arm.options)
                except EdgespecError:
                    self.lose(arm)
                    raise
            self._hungriest = max(self._hungriest, free - self.world.free_memory())
            self.timing.loads.append(self.world.clock() - started)
        return self._engines[arm.engine_key]

    def lose(self, arm: Arm) -> None:
        """Close the arm's engine."""
        engine = self._engines.pop(arm.engine_key, None)
        if engine is not None:
            engine.close()

    def keep(self, arms: Iterable[Arm]) -> None:
        """Close every engine that none of `arms` runs on."""
        wanted = {arm.engine_key for arm in arms}
        for key in [key for key in self._engines if key not in wanted]:
            self._engines.pop(key).close()

    def close(self) -> None:
        self.keep(())

    def run(
        self,
        arms: Sequence[Arm],
        reference: Arm,
        asks: Sequence[Ask],
        lead: Lead,
        failed: Failure,
        task: Task,
    ) -> None:
        """Every arm answers every prompt once, beside the reference. An arm that fails is told to `failed` and answers
        no more; the reference has to work. Raises TimeIsUp between two answers once the deadline has passed."""
        todo = {arm.name: {ask.id for ask in asks} for arm in arms}
        for arm in arms:
            for ask in asks:
                known = self.record.recall((reference.name, arm.name, ask.id))
                if known is not None:
                    lead(arm, ask, known)
                    todo[arm.name].remove(ask.id)
                    task.advance()
        waiting = [arm for arm in arms if todo[arm.name]]
        while waiting:
            heat = self._heat(waiting, reference, failed)
            waiting = [arm for arm in waiting if arm not in heat]
            for ask in self._draw.sample(list(asks), len(asks)):
                now = [arm for arm in heat if ask.id in todo[arm.name]]
                if not now:
                    continue
                task.advance(len(now))
                answering = list(now)
                for arm, ahead in self._block(ask, reference, answering, failed):
                    lead(arm, ask, ahead)
                    self.record.leads[reference.name, arm.name, ask.id] = ahead
                heat = [arm for arm in heat if arm not in now or arm in answering]
            if waiting:
                self.keep([reference])

    def take_up(self, record: Record) -> None:
        """Go on from what an interrupted tune left behind."""
        self.record = record
        for (arm, ask), answer in list(record.answers.items()):
            self._note(arm, ask, answer)

    def _heat(self, waiting: list[Arm], reference: Arm, failed: Failure) -> list[Arm]:
        """As many of `waiting` as memory holds beside the reference, at least one; failures leave `waiting`."""
        self.engine(reference)
        heat: list[Arm] = []
        for arm in sorted(waiting, key=lambda arm: arm.engine_key not in self._engines):
            fits = arm.engine_key in self._engines or self.world.free_memory() > MEMORY_MARGIN * self._hungriest
            if heat and not fits:
                break
            self.hurry()
            try:
                self.engine(arm)
                heat.append(arm)
            except EdgespecError as error:
                failed(arm, str(error))
                waiting.remove(arm)
        return heat

    def _block(self, ask: Ask, reference: Arm, heat: list[Arm], failed: Failure) -> list[tuple[Arm, float]]:
        """The leads of one block; measured once more when something else disturbed an answer."""
        while True:
            seconds: dict[str, float] = {}
            disturbed = False
            for arm in self._draw.sample([reference, *heat], len(heat) + 1):
                self.hurry()
                try:
                    seconds[arm.name], spoilt = self.answer(arm, ask)
                    disturbed = disturbed or spoilt is not None
                except EdgespecError as error:
                    self.lose(arm)
                    if arm is reference:
                        raise
                    failed(arm, str(error))
                    heat.remove(arm)
            if not disturbed or not self._retries:
                break
            self._retries -= 1
            self.world.settle()
        return [(arm, math.log(seconds[reference.name] / seconds[arm.name])) for arm in heat]

    def answer(self, arm: Arm, ask: Ask) -> tuple[float, str | None]:
        """Seconds per token, the prompt's pass included, and what disturbed it. Raises EdgespecError."""
        engine = self.engine(arm)
        self._watch.start(engine)
        started = self.world.clock()
        generation = engine.generate(list(ask.ids), self.max_new_tokens, **arm.options)
        self.timing.answers.append(self.world.clock() - started)
        disturbed = self._watch.stop()
        count = len(generation.token_ids)
        if not count or generation.wall_s <= 0:
            raise EdgespecError(f"'{arm.name}' gave no token for the prompt '{ask.id}'")
        middle = len(ask.ids) + count // 2
        self._note(arm.name, ask.id, Answer(tuple(generation.token_ids), generation.wall_s, generation.tpot_s, middle))
        return generation.wall_s / count, disturbed

    def _note(self, arm: str, ask: str, answer: Answer) -> None:
        self.rates.setdefault(arm, {}).setdefault(ask, []).append(len(answer.ids) / answer.wall_s)
        if answer.tpot_s is not None:
            self.paces.setdefault(arm, []).append((answer.tpot_s, answer.context))
        self.answers.setdefault((arm, ask), list(answer.ids))
        self.record.answers.setdefault((arm, ask), answer)

    def rate(self, arm: Arm) -> float | None:
        """Tokens a second of the arm: median over prompts; None when it answered none."""
        by_prompt = self.rates.get(arm.name)
        return median(median(rates) for rates in by_prompt.values()) if by_prompt else None

    def pace(self, arm: Arm) -> tuple[float | None, int | None]:
        """Milliseconds a token after the first, and the tokens of context they stood behind: medians; None unknown."""
        timed = self.paces.get(arm.name)
        if not timed:
            return None, None
        return median(tpot_s for tpot_s, _ in timed) * 1e3, round(median(context for _, context in timed))

    def left_s(self) -> float:
        """Seconds to the deadline."""
        return self.deadline - self.world.clock()

    def spent(self) -> str:
        """Of the budget, for a line of progress."""
        seconds = self.world.clock() - self.began
        return f"{seconds:.0f} s" if math.isinf(self.budget_s) else f"{seconds:.0f} of {self.budget_s:.0f} s"

    def hurry(self) -> None:
        """Raises TimeIsUp once the deadline has passed."""
        if self.left_s() <= 0:
            raise TimeIsUp
