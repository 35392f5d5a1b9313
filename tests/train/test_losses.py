"""Each loss against a plain numpy reference, cases worked by hand, and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgespec.errors import EdgespecError
from edgespec.train.losses import LOSSES, REST_FLOOR, Mix, TargetView, mixed_loss, outcomes

P = np.array([0.5, 0.25, 0.25, 0.0])
Q = np.array([0.25, 0.25, 0.25, 0.25])
BY_HAND = {
    "kl": 0.5 * math.log(2),  # only the first token differs where p > 0
    "reverse-kl": math.inf,  # q gives a quarter to what p rules out
    "js": (0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3) + 0.25 * math.log(2)) / 2,
    "tvd": 0.25,
}


def _view(p: np.ndarray | torch.Tensor) -> TargetView:
    return TargetView(torch.as_tensor(p).log())


def _loss(name: str, p: np.ndarray, q: np.ndarray, token: int = 0) -> float:
    """Of one position."""
    rows = torch.as_tensor(q).log()[None]
    loss, _ = mixed_loss(rows, torch.tensor([token]), _view(p[None]), Mix.parse(name))
    return float(loss)


@pytest.mark.parametrize("name", BY_HAND)
def test_losses_by_hand(name: str) -> None:
    assert _loss(name, P, Q) == pytest.approx(BY_HAND[name], abs=1e-12)


def test_cross_entropy_by_hand() -> None:
    assert _loss("ce", P, Q, token=2) == pytest.approx(math.log(4))


def test_a_loss_is_zero_where_the_draft_says_what_the_target_says() -> None:
    for name in ("kl", "reverse-kl", "js", "tvd", "tvd++"):
        assert _loss(name, P, P) == pytest.approx(0, abs=1e-12)


def _reference(name: str, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """[n, outcomes] each -> [n], in plain words."""
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = (p + q) / 2
        if name == "kl":
            return np.nansum(p * np.log(p / q), axis=1)
        if name == "reverse-kl":
            return np.nansum(q * np.log(q / p), axis=1)
        if name == "js":
            return (np.nansum(p * np.log(p / middle), axis=1) + np.nansum(q * np.log(q / middle), axis=1)) / 2
        if name == "tvd":
            return np.abs(p - q).sum(axis=1) / 2
    reward = (p > q).astype(float)
    return np.abs(p - q).sum(axis=1) / 2 / reward.std()


def _draw(seed: int, n: int = 6, size: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(target's logits, draft's logits, tokens), float64."""
    generator = torch.Generator().manual_seed(seed)
    p = 2 * torch.randn(n, size, generator=generator, dtype=torch.float64)
    q = 2 * torch.randn(n, size, generator=generator, dtype=torch.float64)
    return p, q, torch.randint(size, (n,), generator=generator)


def _top(log_p: torch.Tensor, k: int) -> TargetView:
    top = log_p.topk(k, dim=-1)
    return TargetView(top.values, top.indices)


def _merged(probabilities: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """[n, size] -> [n, k + 1]: the kept outcomes and the rest as one."""
    chosen = np.take_along_axis(probabilities, kept, axis=1)
    return np.concatenate([chosen, 1 - chosen.sum(axis=1, keepdims=True)], axis=1)


@pytest.mark.parametrize("name", ["kl", "reverse-kl", "js", "tvd", "tvd++"])
@given(seed=st.integers(0, 10_000), k=st.sampled_from([None, 1, 3, 11, 12]))
@settings(max_examples=15, deadline=None)
def test_losses_against_the_reference(name: str, seed: int, k: int | None) -> None:
    p_logits, q_logits, tokens = _draw(seed)
    log_p = p_logits.log_softmax(-1)
    view = TargetView(log_p) if k is None else _top(log_p, k)
    p, q = log_p.exp().numpy(), q_logits.softmax(-1).numpy()
    if k is not None and k < 12:
        kept = log_p.topk(k, dim=-1).indices.numpy()
        p, q = _merged(p, kept), _merged(q, kept)
    loss, parts = mixed_loss(q_logits, tokens, view, Mix.parse(name))
    assert float(loss) == pytest.approx(_reference(name, p, q).mean(), rel=1e-6, abs=1e-9)
    assert float(parts["overlap"]) == pytest.approx(np.minimum(p, q).sum(axis=1).mean(), rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("k", [None, 4])
def test_gradients_against_finite_differences(name: str, k: int | None) -> None:
    p_logits, q_logits, tokens = _draw(3, n=3, size=7)
    log_p = p_logits.log_softmax(-1)
    view = TargetView(log_p) if k is None else _top(log_p, k)
    if name == "tvd++":  # its scale is held constant: differences are taken of the numerator
        rows = q_logits.clone().requires_grad_()
        loss, parts = mixed_loss(rows, tokens, view, Mix.parse(name))
        (found,) = torch.autograd.grad(loss, rows)
        rows = q_logits.clone().requires_grad_()
        plain, _ = mixed_loss(rows, tokens, view, Mix.parse("tvd"))
        (expected,) = torch.autograd.grad(plain, rows)
        torch.testing.assert_close(found, expected * (parts["tvd++"] / plain.detach()))
        return
    rows = q_logits.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mixed_loss(x, tokens, view, Mix.parse(name))[0], (rows,))


@pytest.mark.parametrize("k", [None, 4])
def test_tvd_pp_has_the_gradient_of_the_normalised_policy(k: int | None) -> None:
    """E_q[-grad log q (A - mean) / std], written out over the outcomes with grad log q from autograd."""
    p_logits, q_logits, tokens = _draw(8)
    log_p = p_logits.log_softmax(-1)
    view = TargetView(log_p) if k is None else _top(log_p, k)
    rows = q_logits.clone().requires_grad_()
    target_log_p, log_q = outcomes(rows.log_softmax(-1), view)
    reward = (target_log_p > log_q).double()
    advantage = (reward - reward.mean()) / reward.std(correction=0)
    surrogate = -(log_q.exp().detach() * advantage * log_q).sum(-1).mean()
    (expected,) = torch.autograd.grad(surrogate, rows)
    rows = q_logits.clone().requires_grad_()
    loss, _ = mixed_loss(rows, tokens, view, Mix.parse("tvd++"))
    (found,) = torch.autograd.grad(loss, rows)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 10_000), k=st.integers(1, 11))
@settings(max_examples=40, deadline=None)
def test_merging_the_rest_never_raises_a_distance_and_tvd_is_short_by_what_is_said(seed: int, k: int) -> None:
    p_logits, q_logits, tokens = _draw(seed, n=1)
    log_p, log_q = p_logits.log_softmax(-1), q_logits.log_softmax(-1)
    view = _top(log_p, k)
    for name in ("kl", "reverse-kl", "js", "tvd"):
        whole, _ = mixed_loss(q_logits, tokens, TargetView(log_p), Mix.parse(name))
        merged, _ = mixed_loss(q_logits, tokens, view, Mix.parse(name))
        assert float(merged) <= float(whole) + 1e-5
        if name == "tvd":
            target_log_p, draft_log_q = outcomes(log_q, view)
            short = float(torch.minimum(target_log_p[:, -1], draft_log_q[:, -1]).exp())
            assert float(whole) - float(merged) <= short + 1e-9


def test_kl_over_top_k_is_short_by_the_divergence_inside_the_bucket() -> None:
    p_logits, q_logits, tokens = _draw(5, n=1)
    log_p, log_q = p_logits.log_softmax(-1), q_logits.log_softmax(-1)
    view = _top(log_p, 4)
    assert view.indices is not None
    outside = torch.ones(12, dtype=torch.bool)
    outside[view.indices[0]] = False
    p, q = log_p.exp()[0, outside], log_q.exp()[0, outside]
    inside = float(p.sum() * ((p / p.sum()) * ((p / p.sum()) / (q / q.sum())).log()).sum())
    whole, _ = mixed_loss(q_logits, tokens, TargetView(log_p), Mix.parse("kl"))
    merged, _ = mixed_loss(q_logits, tokens, view, Mix.parse("kl"))
    assert float(whole - merged) == pytest.approx(inside, rel=1e-6)


def test_a_target_that_is_sure_makes_no_infinite_loss() -> None:
    """Top-k probabilities that sum to 1, as rounding leaves them: the bucket is taken for REST_FLOOR."""
    view = TargetView(torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[2, 0]]))
    rows = torch.zeros(1, 5, requires_grad=True)
    for name in ("kl", "js", "tvd"):
        loss, _ = mixed_loss(rows, torch.tensor([2]), view, Mix.parse(name))
        assert math.isfinite(float(loss.detach()))
    log_p, log_q = outcomes(rows.log_softmax(-1), view)
    assert float(log_p[0, -1]) == pytest.approx(math.log(REST_FLOOR)) and float(
        log_q[0, -1].detach().exp()
    ) == pytest.approx(0.6)


def test_chunks_change_neither_the_loss_nor_its_gradient_and_a_head_is_part_of_it() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(23, 5, dtype=torch.float64), torch.randn(12, 5, dtype=torch.float64)
    p_logits, _, tokens = _draw(1, n=23)
    view = _top(p_logits.log_softmax(-1), 5)
    mix = Mix.parse("0.5*ce + 0.25*kl + tvd++ + js")
    results = []
    for chunk in (1000, 7, 1):
        rows, matrix = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        loss, parts = mixed_loss(rows, tokens, view, mix, head=lambda x, w=matrix: x @ w.T, chunk=chunk)
        results.append((loss, *torch.autograd.grad(loss, (rows, matrix)), *parts.values()))
    plain = (hidden @ weight.T).requires_grad_()
    whole, _ = mixed_loss(plain, tokens, view, mix)
    torch.testing.assert_close(results[0][0], whole)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


def test_chunks_bound_the_memory_of_probabilities() -> None:
    """What autograd keeps between forward and backward: the logits themselves, and with chunks nothing beside them."""
    kept: list[int] = []
    rows = torch.randn(4096, 64, requires_grad=True)
    tokens = torch.zeros(4096, dtype=torch.long)
    view = TargetView(torch.randn(4096, 64).log_softmax(-1))
    sizes = {}
    for chunk in (4096, 128):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(lambda x: (kept.append(x.numel()), x)[1], lambda x: x):
            mixed_loss(rows, tokens, view, Mix.parse("kl"), chunk=chunk)
        sizes[chunk] = sum(size for size in kept if size > 128)
    assert sizes[128] <= rows.numel() and sizes[4096] >= 3 * rows.numel()


def test_no_position_that_counts_is_a_loss_of_zero_with_a_gradient() -> None:
    rows = torch.zeros(0, 4, requires_grad=True)
    loss, parts = mixed_loss(rows, torch.zeros(0, dtype=torch.long), None, Mix.parse("ce"))
    loss.backward()
    assert float(loss.detach()) == 0 and parts == {} and rows.grad is not None


def test_a_mix_is_the_weighted_sum_of_its_parts() -> None:
    p_logits, q_logits, tokens = _draw(2)
    view = TargetView(p_logits.log_softmax(-1))
    loss, parts = mixed_loss(q_logits, tokens, view, Mix.parse("0.5*ce + 0.5*kl"))
    assert float(loss) == pytest.approx(0.5 * float(parts["ce"]) + 0.5 * float(parts["kl"]))
    assert set(parts) == {"ce", "kl", "overlap"}


def test_a_mix_reads_as_it_is_written() -> None:
    assert Mix.parse("ce").weights == (("ce", 1.0),)
    assert Mix.parse("0.5*ce+0.5*tvd++").weights == (("ce", 0.5), ("tvd++", 0.5))
    assert str(Mix.parse(" 2 * tvd++ + kl ")) == "2*tvd++ + kl"
    assert Mix.parse("kl + kl").weights == (("kl", 2.0),)
    assert not Mix.parse("ce").needs_target and Mix.parse("ce + 0.1*js").needs_target


@pytest.mark.parametrize("text", ["", "mse", "0*kl", "x*kl", "kl + -1*ce", "inf*kl"])
def test_a_mix_that_is_none_is_a_sentence(text: str) -> None:
    with pytest.raises(EdgespecError, match=r"is no loss; choose ce, kl, reverse-kl, js, tvd, tvd\+\+"):
        Mix.parse(text)


def test_a_loss_that_needs_the_target_says_so() -> None:
    with pytest.raises(
        EdgespecError, match="the loss 'kl' compares with the target's distribution, and none was given"
    ):
        mixed_loss(torch.zeros(1, 4), torch.zeros(1, dtype=torch.long), None, Mix.parse("kl"))


@pytest.mark.parametrize("name", ["kl", "reverse-kl", "js", "tvd", "tvd++"])
@pytest.mark.parametrize("temperature", [0.6, 0.25])
def test_at_a_temperature_both_distributions_are_sharpened(name: str, temperature: float) -> None:
    p, q, tokens = _draw(3)
    sharp, _ = mixed_loss(q / temperature, tokens, _view((p / temperature).softmax(-1)), Mix.parse(name))
    asked = f"{name}@{temperature:g}"
    for view in (_view(p.softmax(-1)), _top(p.log_softmax(-1), p.shape[-1])):
        loss, figures = mixed_loss(q, tokens, view, Mix.parse(asked))
        assert float(loss) == pytest.approx(float(sharp), rel=1e-6)
        assert {asked, "overlap", f"overlap@{temperature:g}"} == set(figures)
    if name == "tvd":
        assert float(figures[f"overlap@{temperature:g}"]) == pytest.approx(1 - float(loss))


def test_at_a_temperature_a_top_k_target_is_as_sharp_as_the_whole_one_but_for_a_bound() -> None:
    """The bucket is taken for the most that it can hold, so no chosen token's share is too high, or lower than that
    allows."""
    p, _, _ = _draw(4, n=50)
    true = (p / 0.6).log_softmax(-1).topk(5, dim=-1).values.exp()
    top = _top(p.log_softmax(-1), 5)
    found = top.at(0.6).log_probs.exp()
    rest = (1 - top.log_probs.exp().sum(-1)) * top.log_probs.exp().amin(-1) ** (1 / 0.6 - 1)
    most = rest / (top.log_probs / 0.6).exp().sum(-1)
    assert bool((found <= true + 1e-9).all()) and bool((found >= true / (1 + most[:, None]) - 1e-9).all())
    assert float((found - true).abs().max()) > 1e-4


def test_a_mix_may_name_several_temperatures() -> None:
    p, q, tokens = _draw(5)
    mix = Mix.parse("0.5*kl + 2*tvd@0.6 + tvd++@0.6 + ce")
    assert str(mix) == "0.5*kl + 2*tvd@0.6 + tvd++@0.6 + ce" and mix.temperatures == [1.0, 0.6]
    loss, figures = mixed_loss(q, tokens, _view(p.softmax(-1)), mix, chunk=2)
    assert list(mix.figures) == ["kl", "tvd@0.6", "tvd++@0.6", "ce", "overlap", "overlap@0.6"]
    assert set(figures) == set(mix.figures)
    parts = [(weight, float(figures[name])) for name, weight in mix.weights]
    assert float(loss) == pytest.approx(sum(weight * value for weight, value in parts))
    assert str(Mix.parse("kl@1")) == "kl"


@pytest.mark.parametrize("text", ["tvd@0", "tvd@1.5", "tvd@warm", "tvd@nan"])
def test_a_temperature_that_is_none_is_a_sentence(text: str) -> None:
    with pytest.raises(EdgespecError, match=r"at a temperature up to 1 as in 'tvd@0.6'"):
        Mix.parse(text)


def test_cross_entropy_has_no_temperature() -> None:
    with pytest.raises(EdgespecError, match=r"ce in the loss 'ce@0\.6' looks at no distribution"):
        Mix.parse("ce@0.6")
