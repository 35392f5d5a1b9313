"""How a causal language model makes logits of its last hidden states, so that a loss can do it too, a block at a time.

Most models multiply by a matrix and are done. Some scale what comes out or bound it, each under a name of its own in
the configuration; what a model does beyond that is not guessed: its logits are compared once with those of the rule,
and where they differ a loss takes the model's own, whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .losses import Head

_RULES: dict[str, Callable[[float], float]] = {
    "logits_scaling": lambda value: 1 / value,  # Granite
    "logit_scale": lambda value: value,  # Cohere
    "lm_head_multiplier": lambda value: value,  # Falcon-H1
}
"""Names in a configuration, and the factor on the logits that each stands for."""


@dataclass(frozen=True)
class LogitRule:
    """logits = bounded(factor * head(hidden)), bounded(x) = softcap * tanh(x / softcap), or x without a softcap (Gemma
    2)."""

    factor: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, config: Any) -> LogitRule:
        """By a transformers configuration."""
        factor = 1.0
        for name, as_factor in _RULES.items():
            value = getattr(config, name, None)
            if value is not None:
                factor *= as_factor(float(value))
        return cls(factor, getattr(config, "final_logit_softcapping", None))

    def __call__(self, raw: torch.Tensor) -> torch.Tensor:
        """raw: what the head's matrix gives."""
        logits = raw if self.factor == 1 else raw * self.factor
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


_CHECKED: dict[tuple[str, LogitRule], bool] = {}
"""Whether the rule is a family's: a family's code decides, so one small pass a family and rule."""


def rule_of(model: Any) -> LogitRule | None:
    """The rule that `model`, a transformers causal LM, follows; None where it does something else. The first model of a
    family answers a text of four tokens for it, so ask before a model is compiled or wrapped."""
    rule = LogitRule.of(model.config)
    key = model.config.model_type, rule
    if key not in _CHECKED:
        _CHECKED[key] = _follows(model, rule)
    return rule if _CHECKED[key] else None


def _follows(model: Any, rule: LogitRule) -> bool:
    seen: list[torch.Tensor] = []
    head = model.get_output_embeddings()
    if model.base_model is model or head is None:
        return False
    hook = model.base_model.register_forward_hook(lambda _, __, out: seen.append(out.last_hidden_state))
    training, device = model.training, model.get_input_embeddings().weight.device
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            logits = model(input_ids=torch.arange(4, device=device)[None], use_cache=False).logits.float()
            ours = rule(head(seen[-1])).float()
    finally:
        hook.remove()
        model.train(training)
    return ours.shape == logits.shape and bool((ours - logits).abs().max() <= 1e-3 * logits.abs().max())


def hidden_states(model: torch.nn.Module, ids: torch.Tensor) -> tuple[torch.Tensor, Head | None]:
    """(rows [batch, length, width], head that turns them into logits): logits are then made only where they count, a
    chunk at a time. A model that makes its logits in a way of its own gives them whole, with no head."""
    lm: Any = model
    rule = rule_of(lm)
    if rule is None:
        return lm(input_ids=ids, use_cache=False).logits, None
    hidden, output = lm.base_model(input_ids=ids, use_cache=False).last_hidden_state, lm.get_output_embeddings()
    return hidden, output if rule == LogitRule() else lambda rows: rule(output(rows))
