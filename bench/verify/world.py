"""What `verify` needs from outside its folder, in one place, so that tests can hand in scripted arms and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.runtime.text import Words
from edgespec.settings import EXACT

from ..cases import first_turn
from ..prompts import Prompt
from ..speakers import BatchSpeaker
from ..target import ModelTarget, Target
from .voices import Voice, voices


@dataclass(frozen=True)
class World:
    """voices: every arm that pair and device have. open_target: the target's exact logits; open_rounded: the same as
    the device computes them under the run's settings; open_draft: the draft's exact ones (None: there is no draft).
    encode: a prompt's ids. stop_ids: what ends an answer. control: greedy answers of plain decoding in one batch."""

    voices: Mapping[str, Voice]
    open_target: Callable[[], Target]
    open_rounded: Callable[[], Target]
    open_draft: Callable[[], Target] | None
    encode: Callable[[Prompt], list[int]]
    stop_ids: frozenset[int]
    control: Callable[[Sequence[Sequence[int]], int], list[list[int]]]

    @classmethod
    def real(
        cls, pair: Pair, device: str, draft_device: str | None, settings: Mapping[str, Any], gamma: int | None
    ) -> World:
        """This machine. Exact logits are always taken from the CPU, where f32 is f32. Raises EdgespecError for a device
        that is not there, and for an NPU."""

        from edgespec.devices import require_device

        device = require_device(device)
        if device.startswith("NPU"):
            raise EdgespecError(
                "an NPU computes neither exactly nor in batches, so nothing there tells rounding from a fault; verify "
                "the pair with --device CPU or GPU"
            )
        draft_device = require_device(draft_device) if draft_device else None
        words = Words(pair.target)
        draft = pair.draft

        def control(prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
            speaker = BatchSpeaker(pair, "plain", device, None, settings, prefix_cache=False)
            try:
                return speaker.together(prompts, max_new_tokens)
            finally:
                speaker.close()

        return cls(
            voices=voices(pair, device, draft_device, settings, gamma),
            open_target=lambda: ModelTarget(pair.target, "CPU", EXACT),
            open_rounded=lambda: ModelTarget(pair.target, device, settings),
            open_draft=None if draft is None else lambda: ModelTarget(draft, "CPU", EXACT),
            encode=lambda prompt: first_turn(prompt, words),
            stop_ids=words.ends(pair.target)[1],
            control=control,
        )
