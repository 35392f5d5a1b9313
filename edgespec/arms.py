"""The ways to decode a pair that are compared with one another: by which engine, in which mode, with what bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kind:
    """One way to decode, by a name such as native-draft. engine, mode: what runs it. drafts: it needs the pair's draft.
    swept: it comes once for every gamma ("gamma"), every threshold ("threshold"), or once (""). samples: it follows the
    target's distribution at temperature above 0. standard: the bench measures it when --arms is not given. head: its
    draft is an EAGLE-3 head, which no other kind that drafts can use."""

    engine: str
    mode: str
    meaning: str
    drafts: bool = False
    swept: str = ""
    samples: bool = True
    standard: bool = False
    head: bool = False


_GENAI = {
    "plain": Kind("genai", "plain", "no speculation", standard=True),
    "draft": Kind(
        "genai", "draft", "the draft proposes gamma tokens", drafts=True, swept="gamma", samples=False, standard=True
    ),
    "dynamic": Kind(
        "genai", "draft", "the draft proposes while it is confident", drafts=True, swept="threshold", samples=False
    ),
    "eagle3": Kind(
        "genai",
        "eagle3",
        "the EAGLE-3 head proposes gamma tokens",
        drafts=True,
        swept="gamma",
        samples=False,
        standard=True,
        head=True,
    ),
    "lookup": Kind("genai", "lookup", "copies from prompt and answer", standard=True),
}


def kinds() -> dict[str, Kind]:
    """Every kind of arm: openvino-genai's, and one for each drafter of the native engine."""
    from .engine.drafters import DRAFTERS

    native = {
        f"native-{name}": Kind(
            "native",
            name,
            entry.meaning,
            drafts=entry.needs_draft,
            swept="gamma" if entry.swept else "",
        )
        for name, entry in DRAFTERS.items()
    }
    return _GENAI | native


@dataclass(frozen=True)
class Arm:
    """One thing that is measured. gamma: None for plain, and for a drafter that chooses how much to propose.
    copy: tells apart two engines that are otherwise the same."""

    name: str
    mode: str
    gamma: int | None = None
    settings_name: str = "default"
    settings: Mapping[str, Any] = field(default_factory=dict)
    engine: str = "genai"
    threshold: float | None = None
    draft_device: str | None = None
    copy: int = 0

    @property
    def engine_key(self) -> tuple[str, ...]:
        """Arms with the same key share one loaded engine: gamma and threshold are chosen per call."""
        return self.engine, self.mode, self.settings_name, self.draft_device or "", str(self.copy)

    @property
    def plain(self) -> bool:
        return self.mode == "plain"

    @property
    def options(self) -> dict[str, Any]:
        """What generate is called with, beside prompt and length."""
        given = {"gamma": self.gamma, "threshold": self.threshold}
        return {name: value for name, value in given.items() if value is not None}
