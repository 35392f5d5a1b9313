"""A narrower layer out of a wider one: everything that reads or writes the residual stream is turned into the
directions that embedding and head use most, and the strongest heads and neurons are kept.

With P [wide, narrow] orthonormal and z = P'x, RMSNorm(x) * g is about sqrt(wide / narrow) * diag(g) P RMSNorm(z), so a
matrix that reads it becomes W diag(g) P sqrt(wide / narrow) behind a norm of ones, and one that writes becomes P'W. It
is exact when P is square, tested; else as good as what P leaves out is small. PCA as in SliceGPT (Ashkboos et al. 2024,
arXiv:2401.15024), here of embedding and head, so that no text is needed; heads and neurons by magnitude as in Minitron
(Muralidharan et al. 2024, arXiv:2407.14679).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from .shapes import group_size, head_size

Weights = dict[str, torch.Tensor]


def principal_directions(embedding: torch.Tensor, head: torch.Tensor | None, width: int) -> torch.Tensor:
    """Orthonormal P [wide, width]: where rows of the embedding (and of a head of its own, gains folded in) have most of
    their energy; each table counts by its share, whatever its scale."""
    moment = torch.zeros(embedding.shape[1], embedding.shape[1], dtype=torch.float64)
    for table in (embedding, head):
        if table is not None:
            own = (table.T @ table).double()
            moment += own / own.trace()
    _, vectors = torch.linalg.eigh(moment)
    return vectors[:, -width:].flip(1).float()


@dataclass(frozen=True)
class Projector:
    """basis: P [wide, narrow]. target, draft: configurations. plus_one: Gemma's norms scale by 1 + weight."""

    basis: torch.Tensor
    target: Any
    draft: Any
    plus_one: bool

    @property
    def gain(self) -> float:
        wide, narrow = self.basis.shape
        return math.sqrt(wide / narrow)

    def reads(self, weight: torch.Tensor, norm: torch.Tensor | None) -> torch.Tensor:
        """A matrix [out, wide] behind a norm with this weight (none: it reads what is not normed) -> [out, narrow]."""
        if norm is None:
            return weight @ self.basis
        return (weight * self._scale(norm)) @ self.basis * self.gain

    def writes(self, weight: torch.Tensor) -> torch.Tensor:
        """[wide, in] -> [narrow, in]."""
        return self.basis.T @ weight

    def norm(self, weight: torch.Tensor) -> torch.Tensor:
        """A norm whose gain cannot be folded into what follows: the diagonal of its turned gain."""
        turned = (self.basis * self._scale(weight)[:, None] * self.basis).sum(0) * self.gain
        return turned - 1 if self.plus_one else turned

    def unit(self) -> torch.Tensor:
        """The weight of a norm that was folded away."""
        return torch.zeros(self.basis.shape[1]) if self.plus_one else torch.ones(self.basis.shape[1])

    def _scale(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + 1 if self.plus_one else weight

    def layer(self, wide: Weights) -> Weights:
        """One decoder layer's weights, names relative to the layer, matrices of Phi-3 already split."""
        narrow: Weights = {}
        before_mlp = "pre_feedforward_layernorm" if "pre_feedforward_layernorm.weight" in wide else None
        before_mlp = before_mlp or "post_attention_layernorm"
        queries, pairs = self._heads(wide)
        reading = wide["input_layernorm.weight"]
        for name, rows in (("q", queries), ("k", pairs), ("v", pairs)):
            narrow[f"self_attn.{name}_proj.weight"] = self.reads(wide[f"self_attn.{name}_proj.weight"][rows], reading)
            if f"self_attn.{name}_proj.bias" in wide:
                narrow[f"self_attn.{name}_proj.bias"] = wide[f"self_attn.{name}_proj.bias"][rows]
        narrow["self_attn.o_proj.weight"] = self.writes(wide["self_attn.o_proj.weight"][:, queries])
        for name in ("self_attn.q_norm.weight", "self_attn.k_norm.weight"):
            if name in wide:
                narrow[name] = wide[name]
        neurons = self._neurons(wide)
        for name in ("gate", "up"):
            weight = wide[f"mlp.{name}_proj.weight"][neurons]
            narrow[f"mlp.{name}_proj.weight"] = self.reads(weight, wide[f"{before_mlp}.weight"])
        narrow["mlp.down_proj.weight"] = self.writes(wide["mlp.down_proj.weight"][:, neurons])
        narrow["input_layernorm.weight"] = narrow[f"{before_mlp}.weight"] = self.unit()
        for name in ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight"):
            if name in wide and name not in narrow:
                narrow[name] = self.norm(wide[name])
        return narrow

    def _heads(self, wide: Weights) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of the queries and of the key-values that stay: the groups that write most to the residual stream."""
        size, group = head_size(self.target), group_size(self.target)
        count = self.target.num_key_value_heads
        values = wide["self_attn.v_proj.weight"].view(count, size, -1)
        out = wide["self_attn.o_proj.weight"].view(-1, count, group, size)
        strength = values.flatten(1).norm(dim=1) * out.permute(1, 0, 2, 3).flatten(1).norm(dim=1)
        kept = strength.topk(self.draft.num_key_value_heads).indices.sort().values
        pairs = (kept[:, None] * size + torch.arange(size)).flatten()
        queries = (kept[:, None] * group * size + torch.arange(group * size)).flatten()
        return queries, pairs

    def _neurons(self, wide: Weights) -> torch.Tensor:
        strength = wide["mlp.down_proj.weight"].norm(dim=0)
        for name in ("gate", "up"):
            strength = strength * wide[f"mlp.{name}_proj.weight"].norm(dim=1)
        return strength.topk(self.draft.intermediate_size).indices.sort().values
