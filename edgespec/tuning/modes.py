"""The ways to decode that a tune holds against plain decoding, most promising first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..arms import Arm, Kind, kinds
from ..errors import EdgespecError
from ..settings import describe
from .settings import portable

GAMMAS = (1, 2, 3, 5)
THRESHOLDS = (0.4,)
MAX_GAMMA = 32
PROMISING = (
    "draft",
    "eagle3",
    "lookup",
    "native-hybrid",
    "native-adaptive-copy",
    "native-adaptive",
    "native-draft",
    "native-copy",
    "native-tree",
    "native-lookup",
    "native-ngram",
    "native-recycling",
    "dynamic",
    "native-guided",
    "native-stand",
    "native-plain",
)
"""In which order they are tried: where time is short, the last ones are not."""
FOR_SAMPLING_ONLY = ("native-tree-sampled",)
SWEPT = ("draft", "eagle3", "native-draft")
"""Tried with every gamma; others that take one choose it as they go, up to their own."""
PROBE_GAMMA = 3


def ways(
    has_draft: bool,
    device: str,
    draft_devices: Sequence[str],
    gammas: Sequence[int],
    thresholds: Sequence[float],
    check: Callable[[str, str], None],
    head: bool = False,
) -> tuple[list[Arm], list[str]]:
    """An arm with no settings for each way that pair and device allow, and a sentence for each kind that they do not.

    head: the draft is an EAGLE-3 head. check: raises EdgespecError where a device is absent or cannot run a mode.
    """
    arms: list[Arm] = []
    left_out: list[str] = []
    known = kinds()
    order = [*PROMISING, *(name for name in known if name not in PROMISING and name not in FOR_SAMPLING_ONLY)]
    for name in (name for name in order if name in known and name != "plain"):
        kind = known[name]
        reason = _why_not(kind, has_draft, device, check, head)
        if reason is not None:
            left_out.append(f"no {name}: {reason}")
            continue
        for where in draft_devices if kind.drafts else (None,):
            arms.extend(_swept(name, kind, where, device, gammas, thresholds))
    return arms, left_out


def _why_not(kind: Kind, has_draft: bool, device: str, check: Callable[[str, str], None], head: bool) -> str | None:
    if kind.drafts and not has_draft:
        return "the pair has no draft"
    if kind.drafts and kind.head != head:
        return "the pair's draft is an EAGLE-3 head" if head else "the pair's draft is no EAGLE-3 head"
    try:
        check(device, kind.mode if kind.engine == "genai" else "native")
    except EdgespecError as error:
        return str(error)
    return None


def _swept(
    name: str, kind: Kind, where: str | None, device: str, gammas: Sequence[int], thresholds: Sequence[float]
) -> list[Arm]:
    at = f"@{where}" if where not in (None, device) else ""
    common: dict[str, Any] = {"mode": kind.mode, "engine": kind.engine, "draft_device": where}
    if name in SWEPT:
        middle_first = sorted(gammas, key=lambda gamma: (abs(gamma - PROBE_GAMMA), gamma))
        return [Arm(f"{name}-g{gamma}{at}", gamma=gamma, **common) for gamma in middle_first]
    if kind.swept == "threshold":
        return [Arm(f"{name}-t{value:g}{at}", threshold=value, **common) for value in thresholds]
    return [Arm(f"{name}{at}", **common)]


def under(arm: Arm, settings_name: str, settings: Mapping[str, Any], device: str) -> Arm:
    """`arm` with plugin settings, which become part of its name."""
    if arm.draft_device is not None:
        settings = portable(settings, device, arm.draft_device)
    return replace(
        arm, name=f"{bare_name(arm)} [{settings_name}]", settings_name=settings_name, settings=dict(settings)
    )


def bare_name(arm: Arm) -> str:
    """The arm's name without its settings."""
    return arm.name.partition(" [")[0]


def described(arm: Arm) -> str:
    return f"{bare_name(arm)} with {describe(arm.settings)}"


def check_numbers(gammas: Sequence[int], thresholds: Sequence[float]) -> None:
    """Refuse gammas and thresholds that mean nothing."""
    if not gammas or any(not 1 <= gamma <= MAX_GAMMA for gamma in gammas) or len(set(gammas)) < len(gammas):
        listed = ", ".join(map(str, gammas)) or "nothing"
        raise EdgespecError(f"the gammas are {listed}; give different whole numbers from 1 to {MAX_GAMMA}")
    if any(not 0 < value < 1 for value in thresholds) or len(set(thresholds)) < len(thresholds):
        raise EdgespecError(
            f"the thresholds are {', '.join(map(str, thresholds))}; give different confidences between 0 and 1"
        )
