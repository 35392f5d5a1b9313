"""Train a draft for a target (imported as edgespec.train): init, pretraining, the target's own text, alignment.

Sources: FastDraft (arXiv:2411.11055) and direct alignment (Goel et al. 2024, arXiv:2403.00858).
"""

from __future__ import annotations

from transformers.utils import logging as transformers_logging

from .evaluate import HeldOut, evaluate_at, evaluate_pair

__all__ = ["HeldOut", "evaluate_at", "evaluate_pair"]

transformers_logging.disable_progress_bar()  # ours are shown instead
