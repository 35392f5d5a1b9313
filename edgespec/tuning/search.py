"""One tune: plugin settings, then ways to decode, then the best of them once more in fresh processes.

settings   one kind after another, raced for plain decoding and for a speculative way, with bounds on quality
modes      every way to decode under the settings that the speculative way was fastest with, raced against plain
           decoding under those that plain was fastest with
confirm    the finalists, the best plain decoding and the untouched default, in processes started anew each round:
           what the profile says is from here, so the luck that made an arm win its race is not in its figure

Choosing and measuring are apart for that reason, and "off" wins unless speculation is surely faster in the last part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ..arms import Arm
from ..errors import EdgespecError
from ..pair import Pair, fingerprint_of
from ..profile import PlainDecoding, Profile
from ..progress import SILENT, Progress
from .choosing import PLAIN, Base, SettingsRace
from .confirming import FEWEST_ROUNDS, Confirmation
from .measuring import Track
from .modes import GAMMAS, THRESHOLDS, bare_name, check_numbers, under, ways
from .quality import Bounds
from .race import FEWEST_PROMPTS, Race
from .racing import NO_TIME, run_races
from .record import Record
from .scoring import Score, Scores
from .settings import steps
from .world import Ask, Asks, World

STAGE_PROMPTS = 3
SETTINGS_PROMPTS = 6
"""Prompts that settings are raced on at most."""
SETTINGS_SHARE = 0.4
"""Of the time there is, what the settings may take."""
CONFIRM_SHARE = 0.35
"""Of the time there is, what is kept back for the last part at most."""
FIRST_STAGE_SHARE = 0.6
"""Of the modes' time, what their first stage may take: where that is too little for all, the least promising are left
out before it."""
FINALISTS = 3


@dataclass(frozen=True)
class Options:
    """What is asked of a tune. draft_devices: all that a draft is tried on; the target's own unless given. budget_s:
    seconds it may take, loading included."""

    device: str = "CPU"
    draft_devices: tuple[str, ...] = ()
    gammas: tuple[int, ...] = GAMMAS
    thresholds: tuple[float, ...] = THRESHOLDS
    budget_s: float = 600.0
    max_new_tokens: int = 64
    bounds: Bounds = field(default_factory=Bounds)
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self.gammas, self.thresholds)
        if self.device.upper().startswith(("AUTO", "MULTI", "HETERO")):
            raise EdgespecError(f"a profile is for one device, and '{self.device}' chooses among several; name one")
        if len(set(self.draft_devices)) < len(self.draft_devices):
            raise EdgespecError(f"a draft device is named twice: {','.join(self.draft_devices)}")
        if self.budget_s <= 0 or self.max_new_tokens < 2 or self.seed < 0:
            raise EdgespecError(
                f"the budget is {self.budget_s:g} s, an answer has {self.max_new_tokens} tokens and the seed is "
                f"{self.seed}; a budget is above 0, an answer has at least 2 tokens, and a seed is 0 or more"
            )


@dataclass(frozen=True)
class Tried:
    """One arm that was raced. ratio: over the plain decoding it was raced against; None when it never answered."""

    part: str
    name: str
    settings_name: str
    settings: dict[str, Any]
    ratio: float | None
    tokens_per_second: float | None
    outcome: str


@dataclass(frozen=True)
class Final:
    """Who is measured in the last part: speculative arms, the fastest of the race first, and plain decodings, the
    untouched default first. reference: the plain decoding that was raced against. compared: speculative arms that
    answered enough prompts beside it to be judged."""

    finalists: list[Arm]
    plains: list[Arm]
    reference: Arm
    race_ended: str
    compared: int

    @property
    def arms(self) -> list[Arm]:
        """The reference first."""
        return [self.reference, *(arm for arm in self.plains if arm != self.reference), *self.finalists]


@dataclass(frozen=True)
class Tuned:
    """What a tune found. scores: of the settings a decision hung on, by their description."""

    profile: Profile
    tried: list[Tried]
    scores: dict[str, Score]
    left_out: list[str]


class OutOfTime(EdgespecError):
    """The budget was too small to find out anything."""


class Search:
    """The state of one tune. Make it, `run` it once; engines are closed whatever happens."""

    def __init__(self, pair: Pair, world: World, options: Options, progress: Progress = SILENT) -> None:
        """Raises EdgespecError for a device that is absent."""
        self.pair, self.world, self.options, self.progress = pair, world, options, progress
        self.device = options.device.upper()
        self.draft_devices = tuple(name.upper() for name in options.draft_devices) or (self.device,)
        if options.draft_devices and pair.draft is None:
            raise EdgespecError("a draft device was given and the pair has no draft; leave it out")
        for name in dict.fromkeys((self.device, *self.draft_devices)):
            world.check(name, "plain")
        self.ways, self.left_out = ways(
            pair.draft is not None,
            self.device,
            self.draft_devices,
            options.gammas,
            options.thresholds,
            world.check,
            head=pair.manifest.draft is not None and pair.manifest.draft.kind == "eagle3",
        )
        self.facts = world.device_facts(self.device)
        self.steps = steps(self.facts)
        self.track = Track(world, pair, self.device, options.max_new_tokens, options.seed)
        self.default = under(PLAIN, "default", {}, self.device)
        self.scores = Scores(world, pair, self.device, options.bounds, scored=self.facts.kind != "NPU")
        self.tried: list[Tried] = []
        self.began = world.clock()
        self.track.began, self.track.budget_s = self.began, options.budget_s

    def run(self) -> Tuned:
        """The winner, with everything that was tried. Raises EdgespecError when plain decoding does not work, or time
        was up before anything could be compared with it; then, and on Ctrl-C, what was measured is kept."""
        record = Record()
        try:
            with self.scores:
                asks = self.begin()
                record = self._take_up(asks)
                plain, probe = self._settings(asks.prompts)
                profile = self._confirm(self._modes(plain, probe, asks.prompts), asks)
        except (KeyboardInterrupt, OutOfTime):
            kept = "nothing was measured that could be kept"
            if record.save():
                kept = f"{len(record.leads)} comparisons are kept for a day: the same command goes on from there"
            self.progress.say(f"Stopped. The pair is as it was; {kept}.")
            raise
        finally:
            self.track.close()
        record.forget()
        return Tuned(profile, self.tried, self.scores.made, self.left_out)

    def _take_up(self, asks: Asks) -> Record:
        """The record of this tune: with what an interrupted one, of the same pair, place and question, left behind."""
        folder, options = self.world.interrupted, self.options
        where = self._where()
        question = {
            **where,
            "machine": where["machine"].model_dump(),
            "pair": fingerprint_of(self.pair.manifest),
            "arms": [arm.name for arm in self.ways],
            "draft_devices": self.draft_devices,
            "settings": self.steps,
            "prompts": [asks.name, [ask.ids for ask in asks.prompts]],
            "max_new_tokens": options.max_new_tokens,
        }
        key = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:32]
        record = Record.at(folder / f"{key}.json" if folder is not None else None)
        if record.known:
            self.progress.say(f"An interrupted tune is taken up: {len(record.known)} comparisons are known from it.")
        self.track.take_up(record)
        return record

    def begin(self) -> Asks:
        """Load plain decoding and let it answer twice, the first time to warm up."""
        try:
            with self.progress.task("loading", total=1):
                engine = self.track.engine(self.default)
                asks = self.world.asks(engine)
                self.track.warm_up = asks.prompts[0]
                for _ in range(2):
                    self.track.timing.answers.clear()
                    self.track.answer(self.default, asks.prompts[0])
        except EdgespecError as error:
            raise EdgespecError(f"plain decoding does not work on {self.device}: {error}") from error
        if len(asks.prompts) < FEWEST_PROMPTS:
            raise EdgespecError(
                f"'{asks.name}' has {len(asks.prompts)} prompts, and a tune needs at least {FEWEST_PROMPTS} to tell "
                "arms apart; give more of them"
            )
        return asks

    def _settings(self, asks: Sequence[Ask]) -> tuple[Base, Base]:
        """The best settings for plain decoding, and for the first speculative way."""
        plain = probe = Base()
        self.track.deadline = self.began + self.options.budget_s * SETTINGS_SHARE
        way = next((arm for arm in self.ways if not arm.plain), None)
        for what, variants in self.steps:
            no_time = f"Settings: no time for the {what}; it stays as it is (--budget-minutes gives more)"
            if self.track.left_s() <= 0:
                self.progress.say(no_time)
                continue
            race = SettingsRace(self.track, variants, plain, probe, way, self.facts.default_precision)
            race.run(_stages(asks[:SETTINGS_PROMPTS]), self.progress, what)
            self._text(asks)
            with self.progress.task("does it still say the same?"):
                plain, probe = race.choose(self.scores)
            for part, arm in race.arms():
                in_use = arm.settings_name == (plain if arm.plain else probe).name
                self._note(f"settings: {what}", part, arm, "in use" if in_use else "not enough faster")
            looked = any(part.measured for part in race.races)
            self.progress.say(_said_of(what, plain, probe) if looked else no_time)
        return plain, probe

    def _text(self, asks: Sequence[Ask]) -> None:
        """What settings are scored on, the same for all of them: the prompts, with the default's answers so far."""
        if not self.scores.made:
            answers = self.track.answers
            self.scores.texts = [(ask.ids, answers.get((self.default.name, ask.id), ())) for ask in asks]

    def _modes(self, plain: Base, probe: Base, asks: Sequence[Ask]) -> Final:
        """Race every way to decode against plain decoding."""
        reference = under(PLAIN, plain.name, plain.settings, self.device)
        entrants = [
            under(arm, *((plain.name, plain.settings) if arm.plain else (probe.name, probe.settings)), self.device)
            for arm in self.ways
        ]
        arms = {reference.name: reference} | {arm.name: arm for arm in entrants}
        stages = _stages(asks)
        race = Race(list(arms), len(stages))
        ends, one_way_s = self.began + self.options.budget_s, self._one_way_s()
        soonest = min(self.world.clock() + one_way_s, ends - one_way_s)
        self.track.deadline = max(ends - self._reserve(len(asks)), soonest)

        def thin(stage: int) -> None:
            if stage == 0:
                self._leave_out(race, [arm for arm in arms.values() if arm != reference], reference)
            else:
                self._thin(race, sum(map(len, stages[stage:])))

        reason = run_races(self.track, [race], arms, reference, stages, self.progress, "ways to decode", thin)
        ahead = [arms[name] for name in race.left if name != reference.name and race.mean(name) > 0]
        plains = [self.default] if reference == self.default else [self.default, reference]
        plains += [arm for arm in ahead if arm.plain]
        finalists = [arm for arm in ahead if not arm.plain][:FINALISTS]
        if finalists and plain.settings != probe.settings:  # the probe may not speak for the way that won
            first = next(arm for arm in self.ways if arm.name == bare_name(finalists[0]))
            finalists[FINALISTS - 1 :] = [under(first, plain.name, plain.settings, self.device)]
        compared = sum(not arms[name].plain for name in race.measured)
        final = Final(finalists, plains, reference, reason, compared)
        for arm in arms.values():
            self._note("ways to decode", race, arm, "in the final" if arm in final.arms else "not among the fastest")
        return final

    def _reserve(self, prompts: int) -> float:
        """Seconds to keep for the last part: its fewest rounds of finalists and plain decodings."""
        timing = self.track.timing
        rounds = FEWEST_ROUNDS * (FINALISTS + 2) * (timing.load_s + prompts * timing.answer_s)
        return min(rounds, self.options.budget_s * CONFIRM_SHARE)

    def _one_way_s(self) -> float:
        """Seconds to hold one way against plain decoding on the fewest prompts. Where the settings took longer than
        they were to, the last part gives up as much: without it there is nothing to find."""
        timing = self.track.timing
        return 2 * (timing.load_s + STAGE_PROMPTS * timing.answer_s)

    def _leave_out(self, race: Race, arms: Sequence[Arm], reference: Arm) -> None:
        """Before the first stage: as many of the least promising arms as there is no time to look at; one is tried."""
        timing = self.track.timing
        room_s = self.track.left_s() * FIRST_STAGE_SHARE - STAGE_PROMPTS * timing.answer_s
        loaded = {reference.engine_key}
        for number, arm in enumerate(arms):
            room_s -= STAGE_PROMPTS * timing.answer_s + (0.0 if arm.engine_key in loaded else timing.load_s)
            if room_s < 0 and number:
                race.drop(arm.name, NO_TIME)
            loaded.add(arm.engine_key)

    def _thin(self, race: Race, prompts_left: int) -> None:
        """Before a later stage: the slowest, as many as there is no time for; one of them goes on beside plain."""
        answer_s = self.track.timing.answer_s
        if answer_s:
            room = max(2, int(self.track.left_s() / (prompts_left * answer_s)))
            race.halve(room, "among the slower ones when time grew short")

    def _confirm(self, final: Final, asks: Asks) -> Profile:
        """Measure the finalists and write down the winner."""
        self.track.deadline = self.began + self.options.budget_s
        self._text(asks.prompts)
        earlier = {arm.name: self.track.rate(arm) for arm in final.arms}
        self.track.rates.clear()
        self.track.paces.clear()
        found = Confirmation(self.track, final.arms, asks.prompts, self.progress)
        ended = found.run()
        self._require_comparison(final, found)
        rates = {arm.name: self.track.rate(arm) or earlier[arm.name] or 0.0 for arm in final.arms}
        sound = [arm for arm in final.plains if arm != self.default or self.scores.of({}).kept] or final.plains
        off = sound[0]
        for arm in sound[1:]:  # the simplest that no other is surely faster than
            if found.over(arm, off).verdict == "faster":
                off = arm
        best_plain = max(sound, key=found.geomean)
        winner, plain = off, off
        if final.finalists:
            fastest = max(final.finalists, key=found.geomean)
            if found.over(fastest, best_plain, 1 - 0.05 / len(final.finalists)).verdict == "faster":
                winner, plain = fastest, best_plain
        for arm in final.arms:
            outcome = "the winner" if arm == winner else found.failed.get(arm.name, "")
            self.tried.append(self._tried("final", arm, found.geomean(arm) or None, outcome))
        level = 1 - 0.05 / max(1, len(final.finalists))
        tpot_ms, context = self.track.pace(plain)
        return Profile(
            machine_fingerprint=self.world.machine_fingerprint(),
            **self._where(),
            draft_device=winner.draft_device,
            draft_devices=self.draft_devices if self.pair.draft is not None else (),
            engine="native" if winner.engine == "native" else "genai",
            mode=winner.mode,
            gamma=winner.gamma,
            threshold=winner.threshold,
            settings=dict(winner.settings),
            tokens_per_second=rates[winner.name],
            plain=PlainDecoding(
                engine="native" if plain.engine == "native" else "genai",
                settings=dict(plain.settings),
                tokens_per_second=rates[plain.name],
                tpot_ms=tpot_ms,
                context_tokens=context,
            ),
            default_tokens_per_second=rates[self.default.name] or None,
            over_plain=None if winner is plain else found.gain(winner, plain, level),
            over_default=None if winner == self.default else found.gain(winner, self.default, level),
            quality=self.scores.of(winner.settings).quality,
            prompts=asks.name,
            prompts_sha256=asks.sha256,
            max_new_tokens=self.options.max_new_tokens,
            tried=len({(item.name, item.settings_name) for item in self.tried if item.tokens_per_second}),
            stopped_because=f"race: {final.race_ended}; final: {ended}",
            seconds=self.world.clock() - self.began,
            at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def _require_comparison(self, final: Final, found: Confirmation) -> None:
        """ "Off" is a finding, not what is left when there was no time to look."""
        if not any(not arm.plain for arm in self.ways):
            return
        judged = [arm for arm in final.finalists if found.over(arm, final.reference).prompts >= FEWEST_PROMPTS]
        failed = [arm for arm in final.finalists if arm.name in found.failed]
        if judged or (final.compared and len(failed) == len(final.finalists)):
            return
        raise OutOfTime(
            f"time was up after {self.world.clock() - self.began:.0f} s, before any way to speculate was held against "
            "plain decoding; give it more with --budget-minutes"
        )

    def _where(self) -> dict[str, Any]:
        here = self.world.here(self.device)
        return {
            "machine": here.machine,
            "device": self.device,
            "device_name": here.device_name,
            "versions": here.versions,
        }

    def _note(self, part: str, race: Race, arm: Arm, outcome: str) -> None:
        self.tried.append(self._tried(part, arm, race.ratio(arm.name), race.out.get(arm.name, outcome)))

    def _tried(self, part: str, arm: Arm, ratio: float | None, outcome: str) -> Tried:
        return Tried(part, bare_name(arm), arm.settings_name, dict(arm.settings), ratio, self.track.rate(arm), outcome)


def _stages(asks: Sequence[Ask]) -> list[Sequence[Ask]]:
    """The prompts in portions of STAGE_PROMPTS; a single one that is left over goes to the last portion."""
    ends = [*range(STAGE_PROMPTS, len(asks) - STAGE_PROMPTS + 2, STAGE_PROMPTS), len(asks)]
    return [asks[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _said_of(what: str, plain: Base, probe: Base) -> str:
    if plain == probe:
        return f"Settings, {what}: {plain.name}"
    return f"Settings, {what}: {plain.name} for plain decoding, {probe.name} for speculation"
