"""The blocked cross-entropy against the plain one: values, gradients, masks, soft caps, autocast."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_run import tiny_model

from edgespec.train import cross_entropy as module
from edgespec.train.cross_entropy import cross_entropy, linear_cross_entropy, next_token_loss


def _case(softcap: float | None, masked: bool) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(13, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(29, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 29, (13,), generator=generator)
    counts = torch.rand(13, generator=generator) < 0.6 if masked else torch.ones(13, dtype=torch.bool)
    return hidden, weight, labels, counts


def test_by_hand() -> None:
    hidden, weight = torch.tensor([[1.0, 0.0]]), torch.tensor([[math.log(3), 0.0], [0.0, 5.0]])
    assert float(linear_cross_entropy(hidden, weight, torch.tensor([0]))) == pytest.approx(-math.log(3 / 4))


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("masked", [False, True])
def test_blocks_give_the_plain_loss_and_its_gradients(
    softcap: float | None, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", 29 * 5)  # 13 positions in three blocks, the last one shorter
    hidden, weight, labels, counts = _case(softcap, masked)
    logits = hidden @ weight.T
    capped = softcap * torch.tanh(logits / softcap) if softcap else logits
    plain = cross_entropy(capped, labels, counts)
    expected = torch.autograd.grad(3 * plain, (hidden, weight))
    blocked = linear_cross_entropy(hidden, weight, labels, counts, softcap)
    found = torch.autograd.grad(3 * blocked, (hidden, weight))
    torch.testing.assert_close(float(blocked), float(plain), rtol=1e-6, atol=1e-6)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_large_logits_do_not_overflow() -> None:
    hidden, weight = torch.full((2, 4), 300.0), torch.eye(4)[:3] * 300
    loss = linear_cross_entropy(hidden, weight, torch.tensor([0, 1]))
    assert float(loss) == pytest.approx(math.log(3))


def test_nothing_to_learn_is_zero_and_not_nan() -> None:
    hidden, weight, labels, _ = _case(None, False)
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


def test_bf16_stays_near_f32() -> None:
    model = tiny_model()
    ids = torch.randint(0, 64, (3, 12), generator=torch.Generator().manual_seed(2))
    exact, _ = next_token_loss(model, {"input_ids": ids})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, _ = next_token_loss(model, {"input_ids": ids})
    rounded.backward()
    assert float(rounded) == pytest.approx(float(exact), rel=1e-2)
    assert all(weight.grad is not None and weight.grad.dtype == torch.float32 for weight in model.parameters())
