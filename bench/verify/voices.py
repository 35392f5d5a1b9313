"""The arms that `verify` can judge on a pair: which there are, and how each is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgespec.engine.drafters import DRAFTERS, Entry
from edgespec.errors import EdgespecError
from edgespec.pair import Pair

from ..speakers import BatchSpeaker, EngineSpeaker, Speaker

Opener = Callable[[], Speaker]
REFERENCE = "plain"
BATCH_CONTROL = "control"
"""Plain decoding of all prompts in one batch."""
NATIVE_CONTROL = "native-plain"
PROOF = "genai-draft-sampled"
"""openvino-genai's draft mode with sampling, which `GenaiEngine` refuses: it fails the check (openvino.genai#4190)."""
STANDARD = (REFERENCE, "draft", "eagle3", "lookup", "native-draft", "native-copy", "native-recycling")
"""What is judged unless --arms says otherwise, as far as the pair and the device have it: of the native engine a chain
that is drawn, one that is copied, and a tree."""
ROOM = 3
"""Tokens that the native engine is asked for beyond those compared, so that its proposals are not cut short."""
NO_DRAFT_SAMPLING = (
    "its answers do not follow the target's distribution at temperature above 0 (openvino.genai#4190), so edgespec "
    f"never samples with it; --arms {PROOF} shows that"
)
JUST_A_PROOF = "it is there to be sampled; give a --temperature"


@dataclass(frozen=True)
class Voice:
    """One arm. greedy, sampled: how it is opened for either check; None where it does not do that, with the reason.

    control: what decodes without speculation in the same engine but rounds otherwise than the reference. What it
    changes under default settings is numerics, so an arm is to change no more. "" for a control itself.
    drafts: it uses the pair's draft. takes_gamma: it proposes as many tokens a step as it is told.
    """

    name: str
    greedy: Opener | None
    sampled: Opener | None
    reason: str = ""
    control: str = BATCH_CONTROL
    drafts: bool = False
    takes_gamma: bool = False


def voices(
    pair: Pair, device: str, draft_device: str | None, settings: Mapping[str, Any], gamma: int | None
) -> dict[str, Voice]:
    """Every arm of this pair by name. Nothing is loaded yet."""

    def engine(mode: str) -> Opener:
        def open_it() -> Speaker:
            from edgespec.engine.genai import open_engine

            opened = open_engine(
                pair,
                device=device,
                draft_device=draft_device if mode in ("draft", "eagle3") else None,
                mode=mode,  # type: ignore[arg-type]
                settings=settings,
            )
            return EngineSpeaker(opened, None if mode == "plain" else gamma)

        return open_it

    def batch(mode: str) -> Opener:
        return lambda: BatchSpeaker(pair, mode, device, draft_device, settings, gamma)

    def native(mode: str, entry: Entry) -> Opener:
        def open_it() -> Speaker:
            from edgespec.engine.native import NativeEngine

            where = draft_device if entry.needs_draft else None
            opened = NativeEngine(pair, device=device, draft_device=where, mode=mode, settings=settings)
            asked = gamma if entry.takes_gamma else None
            return EngineSpeaker(opened, asked, room=ROOM, reuse_prefix=True)

        return open_it

    found = [Voice(REFERENCE, engine("plain"), batch("plain"), control="")]
    head = pair.manifest.draft is not None and pair.manifest.draft.kind == "eagle3"
    if pair.draft is not None:
        mode = "eagle3" if head else "draft"
        found.append(Voice(mode, engine(mode), None, NO_DRAFT_SAMPLING, drafts=True, takes_gamma=True))
    found.append(Voice("lookup", engine("lookup"), batch("lookup"), takes_gamma=True))
    speaks_alone = pair.draft is not None and not head
    if speaks_alone:
        found.append(Voice(PROOF, None, batch("draft"), JUST_A_PROOF, drafts=True, takes_gamma=True))
    for mode, entry in DRAFTERS.items():
        if speaks_alone or not entry.needs_draft:
            opener, name = native(mode, entry), f"native-{mode}"
            control = NATIVE_CONTROL if name != NATIVE_CONTROL else ""
            found.append(
                Voice(name, opener, opener, "", control, drafts=entry.needs_draft, takes_gamma=entry.takes_gamma)
            )
    return {voice.name: voice for voice in found}


def choose(known: Mapping[str, Voice], asked: Sequence[str] | None) -> list[Voice]:
    """The arms to judge, the reference first. asked: None for STANDARD, "all" for every one. Raises EdgespecError for
    one that pair and device do not have."""
    if asked is None:
        return [known[name] for name in STANDARD if name in known]
    names = [name for name in known if name != PROOF] if list(asked) == ["all"] else list(asked)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise EdgespecError(
            f"--arms got '{', '.join(unknown)}'; this pair and device have {', '.join(known)} (or: all)"
        )
    if len(set(names)) < len(names):
        raise EdgespecError(f"--arms names an arm twice: '{','.join(names)}'")
    return [known[REFERENCE], *(known[name] for name in names if name != REFERENCE)]


def with_controls(chosen: Sequence[Voice], known: Mapping[str, Voice]) -> list[Voice]:
    """`chosen` and the arms that are their controls, these for greedy answers only."""
    wanted = {voice.control for voice in chosen} - {voice.name for voice in chosen}
    return [*chosen, *(replace(known[name], sampled=None) for name in known if name in wanted)]
