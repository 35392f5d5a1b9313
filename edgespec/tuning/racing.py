"""A race over its stages: arms answer a few prompts more, those surely slower go, until one is left or time is up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..arms import Arm
from ..progress import Progress
from .measuring import TimeIsUp, Track
from .race import Race
from .world import Ask

NO_TIME = "not tried for want of time"


def run_races(
    track: Track,
    races: Sequence[Race],
    arms: Mapping[str, Arm],
    reference: Arm,
    stages: Sequence[Sequence[Ask]],
    progress: Progress,
    title: str,
    thin: Callable[[int], None] = lambda stage: None,
) -> str:
    """Run `races`, which share blocks, over `stages` of prompts; why they ended, in words.

    arms: by name, the reference among them where it takes part itself. An arm answers as long as one of its races has
    it in. thin: called before each stage, to drop arms for want of time.
    """

    def lead(arm: Arm, ask: Ask, ahead: float) -> None:
        for race in races:
            if arm.name in race.leads:
                race.leads[arm.name][ask.id] = ahead
            if reference.name in race.leads:
                race.leads[reference.name][ask.id] = 0.0

    def failed(arm: Arm, reason: str) -> None:
        for race in races:
            if arm.name in race.leads:
                race.fail(arm.name, reason)

    for number, asks in enumerate(stages):
        thin(number)
        left = {name for race in races for name in race.left} - {reference.name}
        running = [arm for name, arm in arms.items() if name in left]
        if all(len(race.left) < 2 for race in races):
            return "the winner was clear"
        track.keep([reference, *running])
        try:
            what = f"{title}: {len(running)} arms on {len(asks)} prompts, {track.spent()}"
            with progress.task(what, len(running) * len(asks)) as task:
                track.run(running, reference, asks, lead, failed, task)
        except TimeIsUp:
            for race in races:
                for name in race.left:
                    if not race.leads[name]:
                        race.drop(name, NO_TIME)
                race.stage()
            return "time was up"
        for race in races:
            race.stage()
    if all(len(race.left) < 2 for race in races):
        return "the winner was clear"
    return "every prompt was asked"
