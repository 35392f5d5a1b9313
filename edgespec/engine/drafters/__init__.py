"""Whatever proposes tokens: one file a drafter, one line of DRAFTERS each."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model import Trees
    from .making import Maker


@dataclass(frozen=True)
class Entry:
    """What is known of a drafter before it is made. maker: the function of making.py that makes it.

    needs_draft: the pair must have a draft model. takes_gamma: `generate(gamma=...)` bounds its proposals. swept: it
    proposes as many tokens as the bound allows, so that each bound is worth a measurement of its own; otherwise it
    decides itself how much to propose. gamma: the bound unless a request gives another. trees: whether it proposes
    trees, for which the target is opened in a way that takes them.
    """

    maker: str
    meaning: str
    needs_draft: bool = False
    takes_gamma: bool = True
    swept: bool = False
    gamma: int = 8
    trees: Trees = "none"

    def load(self) -> Maker:
        """The maker; its drafter's module is imported by the call of it."""
        maker: Maker = getattr(import_module(".making", __name__), self.maker)
        return maker


DRAFTERS: dict[str, Entry] = {
    "plain": Entry("nothing", "no speculation", takes_gamma=False, gamma=0),
    "draft": Entry("draft_chain", "the draft proposes gamma tokens", needs_draft=True, swept=True, gamma=3),
    "tree": Entry(
        "draft_tree", "the draft proposes its likeliest branches", needs_draft=True, swept=True, trees="whole"
    ),
    "tree-sampled": Entry(
        "sampled_tree", "the draft draws branches, as sampling wants", needs_draft=True, swept=True, trees="whole"
    ),
    "lookup": Entry("lookup", "copies what followed the last three words or fewer", gamma=5),
    "copy": Entry("copy", "copies what followed a longer match, and keeps its place"),
    "guided": Entry("guided", "walks along the prompt, which the answer is expected to repeat"),
    "ngram": Entry("ngram", "a tree of n-grams counted in prompt and answer", trees="whole"),
    "stand": Entry("stand", "a tree of n-grams weighted by the target's probabilities", trees="whole"),
    "recycling": Entry("recycling", "a tree of the tokens that the target ranked next before", trees="whole"),
    "adaptive": Entry("adaptive", "the draft proposes as far as it pays on this machine, or not", True, gamma=16),
    "adaptive-copy": Entry("adaptive_copy", "copies as far as it pays, or not", gamma=12),
    "hybrid": Entry("hybrid", "copies where it promises most, else the draft, as far as it pays", True, gamma=16),
}
"""By the mode that NativeEngine is opened with; the bench measures each as the arm native-<mode>."""
