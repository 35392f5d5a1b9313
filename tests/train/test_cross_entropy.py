"""The blocked cross-entropy against the plain one and against models' own: values, gradients, masks, autocast."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers
from tiny_run import SIZES, tiny_model

from edgespec.train import cross_entropy as module
from edgespec.train import heads
from edgespec.train.cross_entropy import cross_entropy, linear_cross_entropy, next_token_loss
from edgespec.train.heads import LogitRule, hidden_states, rule_of

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "granite": ("Granite", {"logits_scaling": 8.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.22}),
    "gemma2": ("Gemma2", {"final_logit_softcapping": 0.5, "head_dim": 8, "query_pre_attn_scalar": 8}),
    "cohere": ("Cohere", {"logit_scale": 0.0625}),
    "cohere2": ("Cohere2", {"logit_scale": 0.25}),
    "phi": ("Phi", {}),  # its head has a bias
    "of its own": ("Llama", {"model_type": "of its own"}),
}


class Cubed(transformers.LlamaForCausalLM):
    """A model whose logits no rule gives."""

    def forward(self, *args: Any, labels: Any = None, **options: Any) -> Any:
        out = super().forward(*args, **options)
        out.logits = out.logits + out.logits**3
        if labels is not None:
            out.loss = cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return out


def family_model(family: str) -> Any:
    name, own = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(
        **SIZES,
        pad_token_id=0,
        initializer_range=0.2,  # logits far enough from 0 that a scale shows
        **own,
    )
    kind = Cubed if family == "of its own" else getattr(transformers, f"{name}ForCausalLM")
    model = kind(config).train()
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        torch.nn.init.normal_(model.get_output_embeddings().bias)
    return model


def _case(masked: bool) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(13, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(29, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 29, (13,), generator=generator)
    counts = torch.rand(13, generator=generator) < 0.6 if masked else torch.ones(13, dtype=torch.bool)
    return hidden, weight, labels, counts


def test_by_hand() -> None:
    hidden, weight = torch.tensor([[1.0, 0.0]]), torch.tensor([[math.log(3), 0.0], [0.0, 5.0]])
    assert float(linear_cross_entropy(hidden, weight, torch.tensor([0]))) == pytest.approx(-math.log(3 / 4))


@pytest.mark.parametrize("rule", [LogitRule(), LogitRule(softcap=2.0), LogitRule(0.3), LogitRule(3.0, 2.0)])
@pytest.mark.parametrize("masked", [False, True])
def test_blocks_give_the_plain_loss_and_its_gradients(
    rule: LogitRule, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", 29 * 5)  # 13 positions in three blocks, the last one shorter
    hidden, weight, labels, counts = _case(masked)
    logits = hidden @ weight.T * rule.factor
    capped = rule.softcap * torch.tanh(logits / rule.softcap) if rule.softcap else logits
    plain = cross_entropy(capped, labels, counts)
    expected = torch.autograd.grad(3 * plain, (hidden, weight))
    blocked = linear_cross_entropy(hidden, weight, labels, counts, rule)
    found = torch.autograd.grad(3 * blocked, (hidden, weight))
    torch.testing.assert_close(float(blocked), float(plain), rtol=1e-6, atol=1e-6)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_large_logits_do_not_overflow() -> None:
    hidden, weight = torch.full((2, 4), 300.0), torch.eye(4)[:3] * 300
    loss = linear_cross_entropy(hidden, weight, torch.tensor([0, 1]))
    assert float(loss) == pytest.approx(math.log(3))


def test_nothing_to_learn_is_zero_and_not_nan() -> None:
    hidden, weight, labels, _ = _case(False)
    assert float(linear_cross_entropy(hidden, weight, labels, torch.zeros(13, dtype=torch.bool))) == 0


def test_the_models_loss_is_transformers_loss() -> None:
    model = tiny_model()
    ids = torch.randint(0, 64, (3, 12), generator=torch.Generator().manual_seed(2))
    loss, _ = next_token_loss(model, {"input_ids": ids})
    torch.testing.assert_close(loss, model(input_ids=ids, labels=ids).loss, rtol=1e-5, atol=1e-6)
    mask = torch.zeros(3, 12, dtype=torch.bool)
    mask[1, 4:] = True
    labels = ids.masked_fill(~mask, -100)
    loss, _ = next_token_loss(model, {"input_ids": ids, "loss_mask": mask})
    torch.testing.assert_close(loss, model(input_ids=ids, labels=labels).loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_and_its_gradients_are_those_of_models_that_do_more_to_their_logits(family: str) -> None:
    model = family_model(family)
    ids = torch.randint(0, 64, (2, 12), generator=torch.Generator().manual_seed(2))
    expected = model(input_ids=ids, labels=ids).loss
    expected.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    loss, _ = next_token_loss(model, {"input_ids": ids})
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    for name, weight in model.named_parameters():
        largest = float(gradients[name].abs().max())
        torch.testing.assert_close(weight.grad, gradients[name], rtol=1e-4, atol=1e-5 * largest + 1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rule_of_a_family_gives_its_logits(family: str) -> None:
    """As alignment takes them, of a draft and of a target that is asked."""
    model = family_model(family).eval()
    ids = torch.randint(0, 64, (2, 9), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        logits = model(input_ids=ids).logits
        rows, head = hidden_states(model, ids)
        torch.testing.assert_close(rows if head is None else head(rows), logits, rtol=1e-5, atol=1e-5)
        plain = model.get_output_embeddings()(model.base_model(input_ids=ids).last_hidden_state)
    assert (head is None) == (family == "of its own")
    assert family in ("phi", "llama") or not torch.allclose(plain, logits, atol=1e-2), "the case tells nothing"


def test_a_rule_is_tried_once_a_family_and_leaves_the_model_as_it_was() -> None:
    model = family_model("granite")
    heads._CHECKED.clear()
    asked: list[int] = []
    model.register_forward_hook(lambda *_: asked.append(1))
    state = torch.get_rng_state()
    rules = [rule_of(model), rule_of(model), rule_of(family_model("granite"))]
    assert rules == [LogitRule(1 / 8)] * 3 and len(asked) == 1
    assert model.training and torch.equal(torch.get_rng_state(), state), "a run that goes on draws the same numbers"


def test_bf16_stays_near_f32() -> None:
    model = tiny_model()
    ids = torch.randint(0, 64, (3, 12), generator=torch.Generator().manual_seed(2))
    exact, _ = next_token_loss(model, {"input_ids": ids})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, _ = next_token_loss(model, {"input_ids": ids})
    rounded.backward()
    assert float(rounded) == pytest.approx(float(exact), rel=1e-2)
    assert all(weight.grad is not None and weight.grad.dtype == torch.float32 for weight in model.parameters())
