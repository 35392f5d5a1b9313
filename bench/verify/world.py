"""What `verify` needs from outside its folder, in one place, so that tests can hand in scripted arms and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.settings import EXACT
from edgespec.signals import keeping_signal_stack

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
    @keeping_signal_stack()
    def real(
        cls, pair: Pair, device: str, draft_device: str | None, settings: Mapping[str, Any], gamma: int | None
    ) -> World:
        """This machine. Exact logits are always taken from the CPU, where f32 is f32. Raises EdgespecError for a device
        that is not there, and for an NPU."""
        import openvino_genai

        from edgespec.devices import require_device

        device = require_device(device)
        if device.startswith("NPU"):
            raise EdgespecError(
                "an NPU computes neither exactly nor in batches, so nothing there tells rounding from a fault; verify "
                "the pair with --device CPU or GPU"
            )
        draft_device = require_device(draft_device) if draft_device else None
        tokenizer = openvino_genai.Tokenizer(str(pair.target))
        draft = pair.draft

        def encode(prompt: Prompt) -> list[int]:
            text = prompt.text
            if prompt.chat and tokenizer.chat_template:
                text = str(tokenizer.apply_chat_template([{"role": "user", "content": text}], True))
            return [int(token) for token in tokenizer.encode(text, add_special_tokens=False).input_ids.data[0]]

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
            encode=encode,
            stop_ids=_stop_ids(pair, tokenizer),
            control=control,
        )


def _stop_ids(pair: Pair, tokenizer: Any) -> frozenset[int]:
    """As openvino_genai finds them: the generation config's, else the tokenizer's end of text."""
    import openvino_genai

    path = pair.target / "generation_config.json"
    config = openvino_genai.GenerationConfig(str(path)) if path.is_file() else openvino_genai.GenerationConfig()
    end = config.eos_token_id if config.eos_token_id >= 0 else tokenizer.get_eos_token_id()
    return frozenset({int(end), *map(int, config.stop_token_ids)})
