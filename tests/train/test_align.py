from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edgespec.train.align import agreement, align, cache_target, kl_to_target, to_rows
from edgespec.train.generate import Completion, cut_prompts
from edgespec.train.timed import Budget, Schedule


def _model(seed: int, layers: int = 1) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config)


def test_kl_by_hand() -> None:
    p, q = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.25, 0.5, 0.25])
    top = p.log().topk(2)
    found = kl_to_target(q.log()[None], top.indices[None], top.values[None])
    others_p, others_q = 1 - 0.75, 1 - float(q[top.indices].sum())
    expected = sum(float(p[i]) * math.log(float(p[i] / q[i])) for i in top.indices.tolist())
    expected += others_p * math.log(others_p / others_q)
    assert float(found) == pytest.approx(expected, abs=1e-5)


def test_kl_is_zero_for_the_same_distribution_and_its_gradient_is_right() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 16, generator=generator, dtype=torch.float64)
    top = torch.log_softmax(logits, -1).topk(5)
    assert float(kl_to_target(torch.log_softmax(logits, -1), top.indices, top.values).abs().max()) < 1e-9
    other = torch.randn(4, 16, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: kl_to_target(torch.log_softmax(x, -1), top.indices, top.values), (other,))


def test_rows_count_only_what_the_target_wrote() -> None:
    ids, counts = to_rows([Completion([5, 6, 7], [8, 9], 0.0), Completion([1], [2, 3, 4, 5, 6, 7, 8], 0.0)], 6, pad=0)
    assert ids.tolist() == [[5, 6, 7, 8, 9, 0, 0], [1, 2, 3, 4, 5, 6, 7]]
    assert counts.tolist() == [[False, False, True, True, False, False], [True] * 6]


def test_alignment_brings_the_draft_to_the_target(tmp_path: Path) -> None:
    target, draft = _model(1, layers=2), _model(2)
    completions = [Completion([token % 32], [(token * 7 + i) % 32 for i in range(8)], 0.0) for token in range(64)]
    cached = cache_target(target, *to_rows(completions, 8, 0), k=16)
    before = agreement(draft, cached)
    after = align(
        draft, cached, cached, Schedule(), budget=Budget(steps=150), batch=16, seed=0, log=tmp_path / "log.jsonl"
    )
    assert after[0] > before[0] + 0.2 and after[1] > before[1] + 0.1
    assert (tmp_path / "log.jsonl").stat().st_size > 0


def test_a_model_agrees_with_itself() -> None:
    target = _model(1)
    completions = [Completion([1, 2], [3, 4, 5], 0.0)]
    cached = cache_target(target, *to_rows(completions, 6, 0), k=32)
    top1, overlap = agreement(target, cached)
    assert top1 == 1 and overlap == pytest.approx(1, abs=1e-4)


def test_prompts_are_cut_from_the_documents() -> None:
    documents = [list(range(100)), list(range(200, 230)), [1]]
    for prompt in cut_prompts(documents, count=50, shortest=5, longest=20, seed=0):
        assert 5 <= len(prompt) <= 20
        assert prompt == list(range(prompt[0], prompt[0] + len(prompt)))
