"""Prompts to measure a twin on: after each it says something else.

A twin's answer follows from the prompt's last token alone. Prompts that end alike (in a newline, say) get the same
answer, and prompts that end a few tokens apart on the cycle get answers that share most of their tokens: acceptance
measured over such prompts rests on fewer proposals than were counted, and strays outside its binomial interval.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgespec.errors import EdgespecError
from edgespec.twins import read_twin

from .cycle import target_cycle
from .tokenizer import FREQUENT, synthetic_vocabulary

_CANDIDATES = 20_000


def apart_prompts(twin: Path, count: int, tokens: int, *, seed: int = 0, words: int = 24) -> list[str]:
    """`count` texts of random letters after which the target in `twin` (a checkpoint's or a pair's target directory)
    gives answers of up to `tokens` tokens that have no token in common.

    Raises EdgespecError when `twin` is no twin, its vocabulary has no room for that many answers, or the package
    `tokenizers` is missing.
    """
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise EdgespecError(
            'prompts for twins need the package tokenizers; install it with: pip install "edgespec[export]"'
        ) from error
    label = read_twin(twin)
    if label is None:
        raise EdgespecError(f"'{twin}' is no twin: its config.json does not say so; give a twin's directory")
    tokenizer = Tokenizer.from_file(str(twin / "tokenizer.json"))
    vocab = tokenizer.get_vocab_size()
    cycle = target_cycle(synthetic_vocabulary(vocab).live, vocab, label["seed"])
    length = len(cycle.order)
    draw = np.random.default_rng([seed, 3])
    taken: list[int] = []
    prompts: list[str] = []
    for _ in range(_CANDIDATES):
        if len(prompts) == count:
            return prompts
        last = _word(draw)
        position = int(cycle.position[tokenizer.encode(" " + last).ids[-1]])
        if all(tokens <= (position - other) % length <= length - tokens for other in taken):
            taken.append(position)
            prompts.append(" ".join([*(_word(draw) for _ in range(words - 1)), last]))
    if len(prompts) == count:
        return prompts
    raise EdgespecError(
        f"there is room for {len(prompts)} answers of {tokens} tokens that share none among {length:,}, not for "
        f"{count}; ask for fewer or shorter ones, or take a twin with a larger vocabulary"
    )


def _word(draw: np.random.Generator) -> str:
    return "".join(draw.choice(list(FREQUENT.strip()), draw.integers(3, 9)))
