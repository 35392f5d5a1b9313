"""Which arms a run compares: parsed from the command line, checked against pair and device, named for the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgespec.errors import EdgespecError

MODES = ("plain", "draft", "lookup")
GAMMAS = (1, 2, 3, 5)
MAX_GAMMA = 32
REFERENCE = "plain"
"""The arm that every speed-up is relative to: plain decoding with the best settings."""
UNTOUCHED = "plain-default"
"""Plain decoding as OpenVINO does it when nobody sets anything; absent when those are the best settings."""


@dataclass(frozen=True)
class Arm:
    """One thing that is measured. gamma: None for plain, and for a drafter that chooses how much to propose."""

    name: str
    mode: str
    gamma: int | None = None
    settings_name: str = "default"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def engine_key(self) -> tuple[str, str]:
        """Arms with the same key share one loaded engine: gamma is chosen per call."""
        return self.mode, self.settings_name


def parse_modes(text: str | None) -> tuple[str, ...] | None:
    """`plain,draft,lookup` -> modes in that order; None stays None (whatever pair and device allow)."""
    if text is None:
        return None
    modes = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown or not modes:
        raise EdgespecError(f"--arms got '{', '.join(unknown) or text}'; choose from {', '.join(MODES)}")
    if len(set(modes)) < len(modes):
        raise EdgespecError(f"--arms names an arm twice: '{text}'")
    if "plain" not in modes:
        raise EdgespecError(f"--arms needs plain, which the others are compared with: --arms plain,{','.join(modes)}")
    return modes


def parse_gammas(text: str | None) -> tuple[int, ...] | None:
    """`1,2,3,5` -> (1, 2, 3, 5), sorted; None stays None."""
    if text is None:
        return None
    try:
        gammas = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise EdgespecError(f"--gamma got '{text}'; give whole numbers, such as --gamma 1,2,3,5") from error
    return check_gammas(gammas)


def check_gammas(gammas: Sequence[int]) -> tuple[int, ...]:
    wrong = [gamma for gamma in gammas if not 1 <= gamma <= MAX_GAMMA]
    if wrong or not gammas or len(set(gammas)) < len(gammas):
        listed = ", ".join(map(str, gammas)) or "nothing"
        raise EdgespecError(f"--gamma got {listed}; give different whole numbers from 1 to {MAX_GAMMA}")
    return tuple(sorted(gammas))


def choose_modes(
    asked: Sequence[str] | None, has_draft: bool, device: str, check: Callable[[str, str], None]
) -> tuple[tuple[str, ...], list[str]]:
    """The modes to measure, and a sentence for each that was left out. What was asked for is never left out: it is
    run or refused with EdgespecError."""
    if asked is not None:
        parse_modes(",".join(asked))
        if "draft" in asked and not has_draft:
            raise EdgespecError("this pair has no draft, so there is no arm 'draft'; use --arms plain,lookup")
        for mode in asked:
            check(device, mode)
        return tuple(asked), []
    modes, left_out = [], []
    for mode in MODES:
        if mode == "draft" and not has_draft:
            left_out.append("No arm 'draft': the pair has none.")
            continue
        try:
            check(device, mode)
        except EdgespecError as error:
            if mode == "plain":
                raise
            left_out.append(f"No arm '{mode}': {error}.")
            continue
        modes.append(mode)
    return tuple(modes), left_out


def settings_arms(candidates: Mapping[str, Mapping[str, Any]]) -> list[Arm]:
    """The arms of the settings trial: plain decoding under each candidate."""
    return [Arm(f"plain-{name}", "plain", None, name, settings) for name, settings in candidates.items()]


def measured_arms(
    modes: Sequence[str], gammas: Sequence[int], chosen: str, candidates: Mapping[str, Mapping[str, Any]]
) -> list[Arm]:
    """The arms of the measurement, all but the untouched default with the settings named `chosen`."""
    best = candidates[chosen]
    arms = []
    if chosen != "default" and "default" in candidates:
        arms.append(Arm(UNTOUCHED, "plain", None, "default", candidates["default"]))
    for mode in modes:
        if mode == "plain":
            arms.append(Arm(REFERENCE, "plain", None, chosen, best))
        elif mode == "draft":
            arms.extend(Arm(f"draft-g{gamma}", "draft", gamma, chosen, best) for gamma in gammas)
        else:
            arms.append(Arm(mode, mode, None, chosen, best))
    return arms
