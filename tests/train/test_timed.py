from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tiny_run import SIZES
from transformers import LlamaConfig, LlamaForCausalLM

from edgespec.errors import EdgespecError
from edgespec.train.grow import grow_depth
from edgespec.train.muon import Muon, orthogonalise
from edgespec.train.timed import Budget, Schedule, batches, heldout_loss, pack, pretrain


def _model(layers: int = 2, seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        **SIZES | {"num_hidden_layers": layers},
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("layers", [3, 4, 7])
def test_a_grown_model_computes_the_same_function(layers: int) -> None:
    model = _model()
    ids = torch.randint(0, 64, (2, 9))
    grown = grow_depth(model, layers).eval()
    assert grown.config.num_hidden_layers == len(grown.model.layers) == layers
    torch.testing.assert_close(grown(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-5)


def test_every_layer_of_a_grown_model_can_learn() -> None:
    grown = grow_depth(_model(), 5)
    ids = torch.randint(0, 64, (2, 9))
    grown(ids, labels=ids).loss.backward()
    assert all(float(layer.mlp.down_proj.weight.grad.abs().sum()) > 0 for layer in grown.model.layers)


def test_a_model_cannot_grow_shallower() -> None:
    with pytest.raises(ValueError, match="can only grow deeper"):
        grow_depth(_model(), 2)


@pytest.mark.parametrize("shape", [(16, 16), (48, 16), (16, 48)])
def test_orthogonalised_singular_values_are_near_one(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape, generator=generator), steps=8))
    assert float(values.min()) > 0.5 and float(values.max()) < 1.4


def test_muon_steps_by_its_learning_rate_in_spectral_norm() -> None:
    weight = torch.nn.Parameter(torch.zeros(16, 16))
    weight.grad = torch.randn(16, 16, generator=torch.Generator().manual_seed(2))
    Muon([weight], lr=0.1, ns_steps=8).step()
    assert 0.05 < float(torch.linalg.svdvals(weight.detach()).max()) < 0.15


def test_pack_keeps_every_token_in_order() -> None:
    documents = [[1, 2, 3], [4, 5], [6, 7, 8, 9]]
    rows = pack(documents, length=4, end_of_text=0)
    assert rows.tolist() == [[0, 1, 2, 3, 0], [0, 4, 5, 0, 6]]


def test_batches_see_each_row_once_a_pass() -> None:
    rows = torch.arange(8)[:, None]
    stream = batches(rows, batch=2, seed=3)
    first = torch.cat([next(stream) for _ in range(4)]).flatten().tolist()
    assert sorted(first) == list(range(8)) and first != list(range(8))


def test_the_schedule_rises_stays_and_falls_to_zero() -> None:
    schedule = Schedule(warmup=0.1, decay=0.5)
    assert schedule.factor(0.05) == pytest.approx(0.5)
    assert schedule.factor(0.3) == 1
    assert schedule.factor(0.75) == pytest.approx(0.5)
    assert schedule.factor(1.0) == 0
    assert Schedule(decay=0.0).factor(1.0) == 1


def test_training_learns_a_pattern_and_logs_each_step(tmp_path: Path) -> None:
    rows = (torch.arange(17)[None] + torch.arange(32)[:, None]) % 8
    model = _model()
    before = heldout_loss(model, rows)
    log = tmp_path / "log.jsonl"
    last = pretrain(model, rows, rows[:4], Schedule(), budget=Budget(steps=60), batch=8, seed=0, log=log)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == last.step + 1 == 60 and lines[-1]["tokens"] == last.tokens == (last.step + 1) * 8 * 16
    assert heldout_loss(model, rows) < before / 2


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    rows = torch.zeros((1, 9), dtype=torch.long)
    with pytest.raises(EdgespecError, match="too few for batches of 2"):
        pretrain(_model(), rows, rows, Schedule(), budget=Budget(steps=2), batch=2, seed=0, log=tmp_path / "log.jsonl")


def test_a_loss_that_is_not_finite_stops_with_a_sentence(tmp_path: Path) -> None:
    model = _model()
    with torch.no_grad():
        model.model.norm.weight.fill_(math.nan)
    rows = torch.zeros((4, 9), dtype=torch.long)
    with pytest.raises(EdgespecError, match="lower the learning rates"):
        pretrain(model, rows, rows, Schedule(), budget=Budget(steps=2), batch=2, seed=0, log=tmp_path / "log.jsonl")
