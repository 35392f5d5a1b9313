"""Which arms a run compares: parsed from the command line, checked against pair and device, named for the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgespec.arms import Arm as Arm
from edgespec.arms import Kind as Kind
from edgespec.arms import kinds as ways
from edgespec.errors import EdgespecError
from edgespec.profile import Profile

from .rows import Header

GAMMAS = (1, 2, 3, 5)
THRESHOLDS = (0.4,)
"""openvino-genai's own example of a confidence below which the draft stops proposing."""
MAX_GAMMA = 32
REFERENCE = "plain"
"""The arm that every speed-up is relative to: plain decoding with the best settings."""
UNTOUCHED = "plain-default"
"""Plain decoding as OpenVINO does it when nobody sets anything; absent when those are the best settings."""
CONTROL = "plain-again"
"""Plain decoding once more, in another process: what the method says of two arms that are equal."""
TUNED = "tuned"
"""The pair as its profile for this machine and device says, with the settings found there."""
AUTO = "auto"
"""SpecPipeline in auto mode: what an app gets, with the profile's settings where there is one."""
PIPELINE = "pipeline"
"""The engine of AUTO."""
PLAIN_TUNED = "plain-tuned"
"""Plain decoding as the profile has it; absent where that is what another plain arm does anyway."""


def kinds() -> dict[str, Kind]:
    """Every word that --arms takes."""
    known = ways()
    return {
        "plain": known.pop("plain"),
        "control": Kind("genai", "plain", "plain once more, to see what equal arms look like"),
        **known,
        AUTO: Kind(PIPELINE, AUTO, "SpecPipeline in auto mode, as an app runs it: profile, routing and governor"),
        TUNED: Kind("profile", TUNED, "what edgespec tune found best for this machine and device, settings and all"),
    }


def parse_modes(text: str | None) -> tuple[str, ...] | None:
    """`plain,draft,lookup` -> kinds in that order; None stays None (whatever pair and device allow)."""
    if text is None:
        return None
    modes = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [mode for mode in modes if mode not in kinds()]
    if unknown or not modes:
        raise EdgespecError(f"--arms got '{', '.join(unknown) or text}'; choose from {', '.join(kinds())}")
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


def parse_thresholds(text: str | None) -> tuple[float, ...] | None:
    """`0.3,0.5` -> (0.3, 0.5), sorted; None stays None."""
    if text is None:
        return None
    try:
        thresholds = sorted({float(part) for part in text.split(",")})
    except ValueError as error:
        raise EdgespecError(f"--threshold got '{text}'; give confidences, such as --threshold 0.3,0.5") from error
    if not all(0 < value < 1 for value in thresholds):
        raise EdgespecError(f"--threshold got '{text}'; a confidence lies between 0 and 1")
    return tuple(thresholds)


def parse_contexts(text: str | None) -> tuple[int, ...]:
    """`1024,4096` -> (1024, 4096), sorted; None: the prompts as they are."""
    if text is None:
        return ()
    try:
        contexts = sorted({int(part) for part in text.split(",")})
    except ValueError as error:
        raise EdgespecError(f"--context got '{text}'; give numbers of tokens, such as --context 1024,4096") from error
    if contexts[0] < 1:
        raise EdgespecError(f"--context got '{text}'; a context has at least one token")
    return tuple(contexts)


def choose_modes(
    asked: Sequence[str] | None,
    has_draft: bool,
    device: str,
    check: Callable[[str, str], None],
    sampled: bool = False,
    head: bool = False,
) -> tuple[tuple[str, ...], list[str]]:
    """The kinds to measure, and a sentence for each that was left out. What was asked for is never left out: it is
    run or refused with EdgespecError. head: the draft is an EAGLE-3 head."""
    known = kinds()
    if asked is not None:
        parse_modes(",".join(asked))
    modes, left_out = [], []
    usual = [name for name, kind in known.items() if kind.standard and not (kind.drafts and kind.head != head)]
    for mode in asked if asked is not None else usual:
        reason = _why_not(mode, known[mode], has_draft, device, check, sampled, head)
        if reason is None:
            modes.append(mode)
        elif asked is not None or mode == "plain":
            raise EdgespecError(f"the arm '{mode}' cannot be measured: {reason}")
        else:
            left_out.append(f"No arm '{mode}': {reason}.")
    return tuple(modes), left_out


def _why_not(
    name: str,
    kind: Kind,
    has_draft: bool,
    device: str,
    check: Callable[[str, str], None],
    sampled: bool,
    head: bool,
) -> str | None:
    if kind.drafts and not has_draft:
        return "the pair has no draft"
    if kind.drafts and kind.head != head:
        return "the pair's draft is an EAGLE-3 head; use eagle3" if head else "the pair's draft is no EAGLE-3 head"
    if sampled and not kind.samples:
        return (
            f"at temperature above 0 openvino-genai's output follows the draft (openvino.genai#4190), so '{name}' "
            "would not answer as the target; use native-draft"
        )
    check(device, "plain")  # raises where the device itself is not there
    if name in (TUNED, AUTO):
        return None  # what its profile needs was there when it was tuned; auto takes what there is
    try:
        check(device, kind.mode if kind.engine == "genai" else "native")
    except EdgespecError as error:
        return str(error)
    return None


def settings_arms(candidates: Mapping[str, Mapping[str, Any]]) -> list[Arm]:
    """The arms of the settings trial: plain decoding under each candidate."""
    return [Arm(f"plain-{name}", "plain", None, name, settings) for name, settings in candidates.items()]


def measured_arms(header: Header, chosen: str) -> list[Arm]:
    """The arms of the measurement, all but the untouched default with the settings named `chosen`. A draft on a second
    device has its arms named for it: draft-g3@GPU."""
    best = header.candidates[chosen]
    known = kinds()
    profile = Profile.model_validate(header.tuned) if header.tuned is not None else None
    arms = []
    if chosen != "default" and "default" in header.candidates:
        arms.append(Arm(UNTOUCHED, "plain", None, "default", header.candidates["default"]))
    if profile is not None:
        arms += _plain_of(profile, [dict(best), *(dict(arm.settings) for arm in arms)])
    for name in header.modes:
        kind = known[name]
        common: dict[str, Any] = {
            "mode": kind.mode,
            "engine": kind.engine,
            "settings_name": chosen,
            "settings": best,
        }
        if name == "control":
            arms.append(Arm(CONTROL, copy=1, **common))
            continue
        if name == TUNED and profile is not None:
            arms.append(tuned_arm(profile))
            continue
        if name == AUTO:  # nothing is set: the pipeline finds its profile itself
            arms.append(Arm(AUTO, kind.mode, engine=kind.engine, settings_name=AUTO))
            continue
        for number, device in enumerate(header.draft_devices or [None] if kind.drafts else [None]):
            where = f"@{device}" if number else ""
            if kind.swept == "gamma":
                arms.extend(
                    Arm(f"{name}-g{gamma}{where}", gamma=gamma, draft_device=device, **common)
                    for gamma in header.gammas
                )
            elif kind.swept == "threshold":
                arms.extend(
                    Arm(f"{name}-t{value:g}{where}", threshold=value, draft_device=device, **common)
                    for value in header.thresholds
                )
            else:
                arms.append(Arm(f"{name}{where}", draft_device=device, **common))
    return arms


def _plain_of(profile: Profile, there: Sequence[Mapping[str, Any]]) -> list[Arm]:
    """Plain decoding as `profile` has it, unless openvino-genai is measured under those settings already (`there`)."""
    plain = profile.plain
    if plain.engine == "genai" and plain.settings in there:
        return []
    return [Arm(PLAIN_TUNED, "plain", engine=plain.engine, settings_name=PLAIN_TUNED, settings=plain.settings)]


def tuned_arm(profile: Profile) -> Arm:
    """The arm that runs a pair as `profile` says."""
    return Arm(
        TUNED,
        profile.mode,
        gamma=profile.gamma,
        threshold=profile.threshold,
        engine=profile.engine,
        draft_device=profile.draft_device,
        settings_name=TUNED,
        settings=profile.settings,
    )


def kind_of(arm: Arm) -> Kind:
    """The kind that `arm` is of."""
    return next(kind for kind in kinds().values() if (kind.engine, kind.mode) == (arm.engine, arm.mode))
