"""Does speculation change what the model says? `edgespec verify`.

check.py                   one run, from pair to verdict
voices.py                  the arms, and how each is opened (../speakers.py: how each is made to speak)
sameness.py                greedy answers, token for token, and which differences rounding explains
cells.py, variation.py     sampled answers against the exact distribution, and what chance explains
expectation.py, hearing.py, judging.py, telling.py    what is to be heard, what was, what follows, in words

They are all judged by the target's own logits (../target.py).
"""

from __future__ import annotations

from .check import run_verify
from .expectation import Draws
from .telling import print_verification, verification_sentence

__all__ = ["Draws", "print_verification", "run_verify", "verification_sentence"]
