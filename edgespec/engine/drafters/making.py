"""How each drafter of the registry is made: once an engine what outlives a text, once a request the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...pair import Pair
from ..model import Model, Trees, open_model
from ..processors import Processor
from ..proposal import NOTHING, Drafter, Proposal, Verified


@dataclass(frozen=True)
class Place:
    """Where a drafter will work. vocab_size: ids that may be proposed and accepted lie below it."""

    pair: Pair
    device: str
    settings: Mapping[str, Any]
    vocab_size: int


@dataclass(frozen=True)
class Request:
    """One generation. processor: from logits to the distribution that tokens are drawn from, the target's own.
    reuse_prefix: a cache may keep what this prompt has in common with the last text. cancelled: asked between the
    chunks of a long prompt (model.Interrupted)."""

    processor: Processor
    rng: np.random.Generator
    reuse_prefix: bool = False
    cancelled: Callable[[], bool] | None = None


Maker = Callable[[Place], Callable[[Request], Drafter]]
"""Called once an engine; what it returns is called once a request, before `begin`."""


class Nothing:
    """Proposes nothing: plain decoding."""

    name = "plain"

    def begin(self, prompt_ids: Sequence[int]) -> None:
        pass

    def propose(self, budget: int) -> Proposal:
        return NOTHING

    def observe(self, verified: Verified) -> None:
        pass

    def close(self) -> None:
        pass


def nothing(place: Place) -> Callable[[Request], Drafter]:
    return lambda request: Nothing()


def draft_chain(place: Place) -> Callable[[Request], Drafter]:
    from .model import DraftModel

    return DraftModel(draft_of(place), place.vocab_size).serve


def draft_tree(place: Place) -> Callable[[Request], Drafter]:
    from .tree import DraftTree

    return DraftTree(draft_of(place, "grown"), place.vocab_size).serve


def sampled_tree(place: Place) -> Callable[[Request], Drafter]:
    from .tree import SampledTree

    return SampledTree(draft_of(place, "grown"), place.vocab_size).serve


def lookup(place: Place) -> Callable[[Request], Drafter]:
    from .copy import lookup_drafter

    return lambda request: lookup_drafter()


def copy(place: Place) -> Callable[[Request], Drafter]:
    from .copy import CopyDrafter

    return lambda request: CopyDrafter()


def guided(place: Place) -> Callable[[Request], Drafter]:
    from .copy import GuidedDrafter

    return lambda request: GuidedDrafter()


def ngram(place: Place) -> Callable[[Request], Drafter]:
    from .ngram import NgramDrafter

    return lambda request: NgramDrafter(place.vocab_size, sampling=request.processor.sampling, rng=request.rng)


def stand(place: Place) -> Callable[[Request], Drafter]:
    from .ngram import StandDrafter

    return lambda request: StandDrafter(place.vocab_size, sampling=request.processor.sampling, rng=request.rng)


def recycling(place: Place) -> Callable[[Request], Drafter]:
    from .recycling import RecyclingDrafter

    drafter = RecyclingDrafter(place.vocab_size)
    return lambda request: drafter


def adaptive(place: Place) -> Callable[[Request], Drafter]:
    from .hybrid import HybridDrafter, Member
    from .model import DraftModel

    model = DraftModel(draft_of(place), place.vocab_size)
    drafter = HybridDrafter([Member(model, most=16, per_node=True)], name="adaptive")

    def serve(request: Request) -> Drafter:
        model.serve(request)
        return drafter.serve(request)

    return serve


def adaptive_copy(place: Place) -> Callable[[Request], Drafter]:
    from .copy import CopyDrafter
    from .hybrid import HybridDrafter, Member

    drafter = HybridDrafter([Member(CopyDrafter(shortest=1), most=12)], name="adaptive-copy")
    return drafter.serve


def hybrid(place: Place) -> Callable[[Request], Drafter]:
    from .copy import CopyDrafter
    from .hybrid import HybridDrafter, Member
    from .model import DraftModel

    model = DraftModel(draft_of(place), place.vocab_size)
    drafter = HybridDrafter([Member(CopyDrafter(shortest=1), most=12), Member(model, most=16, per_node=True)])

    def serve(request: Request) -> Drafter:
        model.serve(request)
        return drafter.serve(request)

    return serve


def draft_of(place: Place, trees: Trees = "none") -> Model:
    """The pair's draft, compiled for the place's device."""
    assert place.pair.draft is not None, "the engine has checked it"
    return open_model(place.pair.draft, place.device, place.settings, trees=trees)
