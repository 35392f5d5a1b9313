"""The modes an app can ask for by name, as the bench names them: openvino-genai's, and native-<drafter>."""

from __future__ import annotations

from dataclasses import dataclass

from ..engine.drafters import DRAFTERS
from ..errors import EdgespecError

AUTO = "auto"
GENAI = ("plain", "draft", "eagle3", "lookup")
DRAFTED = ("draft", "eagle3")
"""Modes of openvino-genai that need the pair's draft: a model, or an EAGLE-3 head."""


@dataclass(frozen=True)
class Way:
    """How an answer is made. engine: genai or native; mode: as that engine takes it; gamma, threshold: None for the
    engine's own."""

    engine: str
    mode: str
    gamma: int | None = None
    threshold: float | None = None

    @property
    def name(self) -> str:
        return f"native-{self.mode}" if self.engine == "native" else self.mode

    @property
    def speculative(self) -> bool:
        return self.mode != "plain"

    @property
    def drafts(self) -> bool:
        """Whether it needs the pair's draft model."""
        return DRAFTERS[self.mode].needs_draft if self.engine == "native" else self.mode in DRAFTED

    @property
    def samples(self) -> bool:
        """Whether it follows the target's distribution at temperature above 0 (openvino.genai#4190)."""
        return self.engine == "native" or self.mode not in DRAFTED


GENAI_PLAIN = Way("genai", "plain")
NATIVE_PLAIN = Way("native", "plain")


def names() -> tuple[str, ...]:
    """Every mode there is."""
    return (AUTO, *GENAI, *(f"native-{name}" for name in DRAFTERS))


def parse(name: str, gamma: int | None = None, threshold: float | None = None) -> Way | None:
    """The way that `name` asks for, None for auto. Raises EdgespecError."""
    if name == AUTO:
        if gamma is not None or threshold is not None:
            raise EdgespecError(
                "mode 'auto' chooses gamma and threshold itself; leave them out, or ask for a mode such as native-draft"
            )
        return None
    engine, _, drafter = name.partition("native-")
    if engine == "" and drafter in DRAFTERS:
        if threshold is not None:
            raise EdgespecError(f"a threshold is for mode 'draft', not for '{name}'; leave it out")
        if gamma is not None and not DRAFTERS[drafter].takes_gamma:
            raise EdgespecError(f"mode '{name}' proposes nothing, so it takes no gamma; leave it out")
        return Way("native", drafter, gamma)
    if name not in GENAI:
        raise EdgespecError(f"there is no mode '{name}'; choose {', '.join(names())}")
    if name == "plain" and gamma is not None:
        raise EdgespecError("mode 'plain' proposes nothing, so it takes no gamma; leave it out")
    if threshold is not None and (name != "draft" or gamma is not None):
        raise EdgespecError("a threshold is for mode 'draft', instead of a gamma; leave one of them out")
    return Way("genai", name, gamma, threshold)
