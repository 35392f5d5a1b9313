"""The tensors of a causal language model by its config: names as transformers reads them, shapes, and what rows do.

Llama, Mistral, Qwen2, Qwen3, Phi-3 (one matrix for query, key and value, one for gate and up) and Gemma 2 (norms after
attention and MLP too, norm weights stored less one, embedding scaled by sqrt(hidden)).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgespec.errors import EdgespecError


@dataclass(frozen=True)
class Family:
    """How a model type differs from Llama. sandwich: Gemma 2's norms. head_dim, tied: its config's defaults."""

    architecture: str
    biased: bool = False
    head_norms: bool = False
    fused: bool = False
    sandwich: bool = False
    head_dim: int | None = None
    tied: bool = False


FAMILIES: Mapping[str, Family] = {
    "llama": Family("LlamaForCausalLM"),
    "mistral": Family("MistralForCausalLM"),
    "qwen2": Family("Qwen2ForCausalLM", biased=True),
    "qwen3": Family("Qwen3ForCausalLM", head_norms=True, head_dim=128),
    "phi3": Family("Phi3ForCausalLM", fused=True),
    "gemma2": Family("Gemma2ForCausalLM", sandwich=True, head_dim=256, tied=True),
}


@dataclass(frozen=True)
class Tensor:
    """name, shape, and what its rows do from the top: (role, rows) each. A vector has one role.

    Roles: embedding, head; query, key, value, attention_out, gate, up, down; bias; norm, final_norm, and after_norm
    (Gemma 2's, behind attention and MLP)."""

    name: str
    shape: tuple[int, ...]
    parts: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Layout:
    """The sizes that decide a model's tensors."""

    family: Family
    vocab: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool

    def embedding(self) -> Tensor:
        return _matrix("model.embed_tokens.weight", self.hidden, ("embedding", self.vocab))

    def final(self) -> list[Tensor]:
        """The last norm, and the head where it is a matrix of its own."""
        tensors = [_vector("model.norm.weight", self.hidden, "final_norm")]
        if not self.tied:
            tensors.append(_matrix("lm_head.weight", self.hidden, ("head", self.vocab)))
        return tensors

    def layer(self, index: int) -> list[Tensor]:
        return list(self._layer(f"model.layers.{index}"))

    def _layer(self, layer: str) -> Iterator[Tensor]:
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
        inputs = (("q", "query", queries), ("k", "key", keys), ("v", "value", keys))
        if self.family.fused:
            rows = tuple((role, size) for _, role, size in inputs)
            yield _matrix(f"{attention}.qkv_proj.weight", self.hidden, *rows)
            yield _matrix(
                f"{mlp}.gate_up_proj.weight", self.hidden, ("gate", self.intermediate), ("up", self.intermediate)
            )
        else:
            for letter, role, size in inputs:
                yield _matrix(f"{attention}.{letter}_proj.weight", self.hidden, (role, size))
                if self.family.biased:
                    yield _vector(f"{attention}.{letter}_proj.bias", size, "bias")
            for role in ("gate", "up"):
                yield _matrix(f"{mlp}.{role}_proj.weight", self.hidden, (role, self.intermediate))
        yield _matrix(f"{attention}.o_proj.weight", queries, ("attention_out", self.hidden))
        yield _matrix(f"{mlp}.down_proj.weight", self.intermediate, ("down", self.hidden))
        if self.family.head_norms:
            for letter in "qk":
                yield _vector(f"{attention}.{letter}_norm.weight", self.head_dim, "norm")
        yield _vector(f"{layer}.input_layernorm.weight", self.hidden, "norm")
        sandwich = self.family.sandwich
        after = "after_norm" if sandwich else "norm"
        yield _vector(f"{layer}.post_attention_layernorm.weight", self.hidden, after)
        if sandwich:
            yield _vector(f"{layer}.pre_feedforward_layernorm.weight", self.hidden, "norm")
            yield _vector(f"{layer}.post_feedforward_layernorm.weight", self.hidden, after)

    @property
    def parameters(self) -> int:
        """Numbers in the checkpoint; a tied head counts once."""
        tensors = [self.embedding(), *self.final()]
        return sum(math.prod(tensor.shape) for tensor in tensors) + self.layers * sum(
            math.prod(tensor.shape) for tensor in self.layer(0)
        )


def read_layout(config: Mapping[str, Any], name: str) -> Layout:
    """The layout that `config` (a config.json) asks for; `name` is used in errors.

    Raises EdgespecError for a model type that is not in FAMILIES, a size that is missing or no whole number above 0,
    heads that do not divide, and biases that a twin of this type does not build.
    """
    family = FAMILIES.get(str(config.get("model_type")))
    if family is None:
        raise EdgespecError(
            f"no twin can be built of '{name}': its model type is '{config.get('model_type')}', and twins are built of "
            f"{', '.join(FAMILIES)}"
        )
    if config.get("mlp_bias") or (config.get("attention_bias") and not family.biased):
        raise EdgespecError(f"no twin can be built of '{name}': it has biases, which twins of its type do not have")
    hidden = _size(config, "hidden_size", name)
    heads = _size(config, "num_attention_heads", name)
    kv_heads = _size(config, "num_key_value_heads", name, heads)
    head_dim = _size(config, "head_dim", name, family.head_dim or hidden // heads)
    if heads % kv_heads:
        raise EdgespecError(f"'{name}' has {heads} heads, which its {kv_heads} key-value heads do not divide")
    tied = config.get("tie_word_embeddings")
    return Layout(
        family=family,
        vocab=_size(config, "vocab_size", name),
        hidden=hidden,
        intermediate=_size(config, "intermediate_size", name),
        layers=_size(config, "num_hidden_layers", name),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        tied=family.tied if tied is None else bool(tied),
    )


def _size(config: Mapping[str, Any], key: str, name: str, default: int | None = None) -> int:
    value = config.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise EdgespecError(f"the config of '{name}' has {key} {value}, where a whole number above 0 is needed")
    return value


def _matrix(name: str, columns: int, *parts: tuple[str, int]) -> Tensor:
    return Tensor(name, (sum(rows for _, rows in parts), columns), parts)


def _vector(name: str, length: int, role: str) -> Tensor:
    return Tensor(name, (length,), ((role, length),))
