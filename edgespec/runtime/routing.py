"""Which way a request is answered, and why: a pure decision over what was asked and what is there.

In auto mode a list of ways is given, best first; the pipeline takes the first that loads. The last ones decode plainly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import EdgespecError
from ..sampling import Sampling
from . import npu
from .modes import GENAI_PLAIN, NATIVE_PLAIN, Way
from .placement import Placement

HYBRID = Way("native", "hybrid")
HEAD = Way("genai", "eagle3")
DRAFT = Way("genai", "draft")
COPY = Way("native", "adaptive-copy")


@dataclass(frozen=True)
class Choice:
    """A way and the reason for it. governed: whether the governor may turn its speculation off."""

    way: Way
    why: str
    governed: bool = False


@dataclass(frozen=True)
class Wishes:
    """What of a request and a pipeline bears on the way. constrained: a grammar holds the answer. head: the
    draft is an EAGLE-3 head, which only mode eagle3 can use. gguf: the target is a GGUF file, which only openvino-genai
    reads. prefix: Options.reuse_prefix, where it was given. continued: part of the answer was said by another engine,
    which broke down."""

    sampling: Sampling
    constrained: bool
    has_draft: bool
    adapters: bool
    chat: bool = False
    head: bool = False
    gguf: bool = False
    prefix: bool | None = None
    continued: bool = False


def explicit(way: Way, wishes: Wishes, place: Placement) -> Choice:
    """The way that was asked for; refused with EdgespecError where it would not do what the request says."""
    reason = why_not(way, wishes, place)
    if reason is not None:
        raise EdgespecError(f"mode '{way.name}' was asked for, but {reason}; leave that out, or use mode auto")
    return Choice(way, "asked for")


def why_not(way: Way, wishes: Wishes, place: Placement) -> str | None:
    """Why `way` cannot do what is wished; None when it can. Whether it loads is another matter."""
    sampling = wishes.sampling
    if way.drafts and not wishes.has_draft:
        return "the pair has no draft"
    if way.drafts and wishes.head != ((way.engine, way.mode) == (HEAD.engine, HEAD.mode)):
        return "the pair's draft is an EAGLE-3 head" if wishes.head else "the pair's draft is no EAGLE-3 head"
    if wishes.adapters and (way.engine == "native" or way.drafts):
        what = "the native engine applies none" if way.engine == "native" else "the draft would have to have them too"
        return f"LoRA adapters were given and {what}"
    if wishes.gguf and way.engine == "native":
        return "the target is a GGUF file, which the native engine does not read"
    if way.engine == "native":
        on_npu = npu.is_npu(place.device) or (way.drafts and npu.is_npu(place.draft_device))
        return "an NPU runs models of fixed shape only, which the native engine does not drive" if on_npu else None
    if wishes.constrained:
        return "a grammar is kept by the native engine alone"
    if not way.samples and not sampling.greedy:
        return (
            "at temperature above 0 openvino-genai's draft mode does not follow the target's distribution "
            "(openvino.genai#4190)"
        )
    if sampling.logit_bias:
        return "openvino-genai has no logit_bias"
    if wishes.continued and (sampling.presence_penalty or sampling.frequency_penalty):
        return "openvino-genai would count presence and frequency penalties anew in the middle of an answer"
    on_npu = npu.is_npu(place.device) or (way.drafts and npu.is_npu(place.draft_device))
    if wishes.prefix is not None and wishes.prefix != keeps_prefixes(way, on_npu):
        if not wishes.prefix:
            what = "keeps what its cache holds of every prompt"
        else:
            what = f"reads every prompt anew {'on an NPU' if on_npu else 'beside an EAGLE-3 head'}"
        return f"reuse_prefix={wishes.prefix} was given and openvino-genai {what}"
    if npu.is_npu(place.device) and way.mode == "lookup":
        return "openvino-genai ignores prompt lookup on an NPU"
    return npu.refusal(way.mode, sampling) if on_npu else None


def keeps_prefixes(way: Way, on_npu: bool) -> bool:
    """Whether openvino-genai is run with a cache that keeps prefixes. Not with a head, which wants the hidden states of
    the whole prompt."""
    return not on_npu and (way.engine, way.mode) != (HEAD.engine, HEAD.mode)


def ways(wishes: Wishes, place: Placement) -> list[Choice]:
    """In auto mode: what to try, best first, of what can do what is wished. Empty when nothing can."""
    if npu.is_npu(place.device):
        found = _on_an_npu(wishes, place)
    elif wishes.adapters:
        found = [Choice(GENAI_PLAIN, "LoRA adapters run on openvino-genai, and a draft would not have them")]
    elif wishes.gguf:
        found = _of_a_gguf(wishes, place)
    else:
        found = _elsewhere(wishes, place)
    return [choice for choice in found if why_not(choice.way, wishes, place) is None]


def _tuned(place: Placement) -> Choice | None:
    profile = place.profile
    if profile is None:
        return None
    way = Way(profile.engine, profile.mode, profile.gamma, profile.threshold)
    return Choice(way, place.profile_reason, governed=profile.speculative)


def _on_an_npu(wishes: Wishes, place: Placement) -> list[Choice]:
    tuned = _tuned(place)
    plain = Choice(GENAI_PLAIN, "an NPU, where a draft is used when a tuned profile says that it pays")
    if tuned is None:
        return [plain]
    if why_not(tuned.way, wishes, place) is None:
        return [tuned, plain]
    return [Choice(GENAI_PLAIN, f"the tuned mode is '{tuned.way.name}', but {why_not(tuned.way, wishes, place)}")]


def _of_a_gguf(wishes: Wishes, place: Placement) -> list[Choice]:
    tuned = _tuned(place)
    found = [tuned] if tuned is not None else []
    if wishes.has_draft:
        found.append(Choice(DRAFT, "the target is a GGUF file, and the pair has a draft", True))
    return [*found, Choice(GENAI_PLAIN, "the target is a GGUF file, decoded plainly")]


def _elsewhere(wishes: Wishes, place: Placement) -> list[Choice]:
    sampled = not wishes.sampling.greedy
    found: list[Choice] = []
    tuned = _tuned(place)
    because = ""
    if tuned is not None:
        reason = why_not(tuned.way, wishes, place)
        if reason is None:
            found.append(tuned)
            if not tuned.way.speculative:
                return [*found, *_plain(tuned.way.engine)]
        else:
            because = f"; the tuned mode is '{tuned.way.name}', but {reason}"
    kind = "sampling" if sampled else "greedy"
    if wishes.head:
        found.append(Choice(HEAD, f"{kind}, and the pair's draft is an EAGLE-3 head{because}", True))
    elif wishes.has_draft:
        exact = ", by exact acceptance, which keeps the target's distribution" if sampled else ""
        found.append(
            Choice(
                HYBRID, f"{kind}, and the pair has a draft: drafts or copies as far as it pays{exact}{because}", True
            )
        )
    else:
        found.append(
            Choice(COPY, f"{kind}, and the pair has no draft: copies from the context as far as it pays{because}", True)
        )
    if wishes.has_draft:
        found.append(Choice(COPY, "copies from the context as far as it pays", True))
    native = wishes.constrained or wishes.chat
    return [*found, *_plain("native" if native else "genai")]


def _plain(first: str) -> Sequence[Choice]:
    both = [Choice(GENAI_PLAIN, "plain decoding"), Choice(NATIVE_PLAIN, "plain decoding")]
    return both if first == "genai" else both[::-1]
