"""Prompts that stand in the draft's training text are left out and counted: they would measure memory."""

from __future__ import annotations

from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.training_index import INDEX_FILE, TrainingIndex

from .suite import Suite

THRESHOLD = 0.2
"""Share of a turn's bytes in runs of the training text from which the prompt is left out. Below a fifth it is what any
two files of a kind share (imports, a licence, `if not isinstance(other, ...): return NotImplemented`); the Llama 2
report (arXiv:2307.09288, appendix A.6) calls a sample clean below the same share. The index errs to the low side."""


def training_index_of(pair: Pair) -> TrainingIndex | None:
    """The index beside the pair's draft. None: there is no draft, or nobody said what it was trained on."""
    draft, record = pair.draft, pair.manifest.draft
    if draft is None or record is None or INDEX_FILE not in record.files:
        return None
    return TrainingIndex.read(draft / INDEX_FILE)


def split(suite: Suite, index: TrainingIndex) -> tuple[Suite, list[str]]:
    """The suite without prompts of which any turn stands in the training text, and the ids of those left out.

    Raises EdgespecError when none would be left.
    """
    dropped = [prompt.id for prompt in suite.prompts if max(map(index.overlap, prompt.turns)) >= THRESHOLD]
    kept = tuple(prompt for prompt in suite.prompts if prompt.id not in dropped)
    if not kept:
        raise EdgespecError(
            f"every prompt of '{suite.name}' stands in the text that the draft was trained on ({index.sources}); "
            "choose other prompts"
        )
    return Suite(suite.name, kept), dropped
