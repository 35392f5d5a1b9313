"""Alignment on the common loop: what a batch says, what is compared with what, and that it brings a draft closer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edgespec.errors import EdgespecError
from edgespec.train.align import (
    AlignConfig,
    Aligned,
    Mixture,
    align,
    alignment_loss,
    in_service,
    read_rows,
    split,
    to_batch,
)
from edgespec.train.batches import ShuffledRows
from edgespec.train.evaluate import Service
from edgespec.train.generate.distributions import top_k, write_top_k
from edgespec.train.generate.request import Written
from edgespec.train.generate.shards import open_set, write_shard
from edgespec.train.loop import LoopConfig, Snapshot
from edgespec.train.losses import Mix
from edgespec.train.metrics import read_curve
from edgespec.train.schedule import Schedule
from edgespec.train.sequence import TorchModel

VOCABULARY = 32


def _model(seed: int, layers: int = 1) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config)


def _written(index: int, prompt: list[int], answer: list[int]) -> Written:
    return Written(index, "", "", "", prompt, answer, 0.0, 1.0, "length")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """128 answers that a random target wrote greedily, with its 8 likeliest tokens at every place."""
    folder = tmp_path_factory.mktemp("answers") / "set"
    target = _model(1, layers=2).eval()
    open_set(folder, {"target": "random"})
    rows = []
    for index in range(128):
        prompt = [index % VOCABULARY, 4 + index // VOCABULARY, 1]
        sequence = TorchModel(target).sequence()
        text = list(prompt)
        for _ in range(10):
            text.append(int(sequence.feed(text[len(sequence.tokens) :])[0].argmax()))
        rows.append(_written(index, prompt, text[3:]))
    write_shard(folder, 0, rows)
    write_top_k(folder, TorchModel(target), 8)
    return folder


def _config(loss: str, steps: int = 40, **more: Any) -> AlignConfig:
    loop = LoopConfig(
        steps=steps,
        batch=16,
        learning_rate=3e-3,
        schedule=Schedule("wsd", warmup=0.05, decay=0.3),
        precision="f32",
        checkpoint_every=1000,
        hook_every=more.pop("hook_every", 0),
    )
    return AlignConfig(loss=loss, length=16, share=more.pop("share", 0.0), heldout=0.25, loop=loop, **more)


def test_a_batch_marks_what_the_target_wrote_and_what_it_thought_there() -> None:
    known = Aligned(np.array([5, 6, 7, 8]), 2, np.array([[7, 1], [8, 2]], np.int32), np.log([[0.6, 0.3], [0.9, 0.05]]))
    batch = to_batch([known, Aligned(np.array([1, 2, 3]), 1, np.zeros((2, 2), np.int32), np.zeros((2, 2), np.float32))])
    assert batch["input_ids"].shape == (2, 32) and batch["input_ids"][0, :5].tolist() == [5, 6, 7, 8, 0]
    assert batch["loss_mask"][:, :5].tolist() == [[False, False, True, True, False], [False, True, True, False, False]]
    assert batch["target_ids"][0, 2:4].tolist() == [[7, 1], [8, 2]]
    assert batch["target_log_probs"][0, 3].exp().tolist() == pytest.approx([0.9, 0.05])


@pytest.mark.parametrize("loss", ["ce", "0.5*ce + 0.5*kl", "tvd", "tvd++"])
def test_losses_bring_the_draft_closer_in_service(loss: str, answers: Path, tmp_path: Path) -> None:
    draft, target = _model(2), _model(1, layers=2)
    asked = [("t", [index, 4 + index % 4, 1]) for index in range(8)]
    service = Service(target, asked, temperatures=[0.0], max_new_tokens=10)
    before = service(draft)[0]["acceptance_rate"]
    outcome = align(draft, answers, tmp_path, _config(loss), cached=loss != "ce")
    assert outcome.finished and outcome.heldout_loss is not None
    assert service(draft)[0]["acceptance_rate"] > before + 0.1
    if loss != "ce":
        overlaps = [value for _, value in read_curve(tmp_path, "overlap")]
        assert overlaps[-1] > overlaps[0] + 0.1


def test_asking_the_target_is_reading_its_whole_distribution(answers: Path) -> None:
    """Over all 32 tokens cached, both give the same loss, and the same gradient in every weight."""
    target = _model(1, layers=2).eval()
    row = read_rows(answers, 16, cached=True)[0]
    logits = target(torch.from_numpy(row.ids)[None]).logits[0, row.start - 1 : -1].detach()
    indices, log_probs = top_k(logits.numpy(), VOCABULARY)
    whole = to_batch([Aligned(row.ids, row.start, indices, log_probs)])
    for loss in ("kl", "tvd"):
        found = []
        for asked in (target, None):
            draft = _model(2)
            value, figures = alignment_loss(Mix.parse(loss), asked)(draft, whole)
            value.backward()
            found.append((value, figures["overlap"], *(weight.grad for weight in draft.parameters())))
        torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_the_loss_is_taken_only_where_the_target_wrote(answers: Path) -> None:
    rows = read_rows(answers, 16, cached=True)[:4]
    whole, _ = alignment_loss(Mix.parse("ce"))(_model(2), to_batch(rows))
    draft = _model(2)
    by_hand = []
    for row in rows:
        ids = torch.from_numpy(row.ids)[None]
        log_q = draft(ids).logits[0].log_softmax(-1)
        by_hand += [-log_q[place - 1, ids[0, place]] for place in range(row.start, ids.shape[1])]
    torch.testing.assert_close(whole, torch.stack(by_hand).mean(), rtol=1e-5, atol=1e-6)


def test_pretraining_rows_are_learnt_by_cross_entropy_and_weighed_by_tokens(answers: Path) -> None:
    rows = read_rows(answers, 16, cached=True)
    text = ShuffledRows({"input_ids": torch.arange(10 * 40).reshape(10, 40) % VOCABULARY}, batch=2, seed=0)
    batch, position = next(iter(Mixture(rows, 8, 0, text, 2).read()))
    assert batch["aligned"].tolist() == [False, True, True, True, False, True, True, True], "spread over the processes"
    assert batch["input_ids"].shape == (8, 40) and position == [1, 1]
    assert batch["loss_mask"][0].all() and batch["loss_mask"][1].sum() == 10
    loss, figures = alignment_loss(Mix.parse("kl"))(_model(2), batch)
    plain = {name: tensor[~batch["aligned"]] for name, tensor in batch.items() if name in ("input_ids", "loss_mask")}
    aligned = {name: tensor[batch["aligned"]] for name, tensor in batch.items()}
    text_loss, _ = alignment_loss(Mix.parse("ce"))(_model(2), plain)
    own, _ = alignment_loss(Mix.parse("kl"))(_model(2), aligned)
    share = 60 / (60 + 2 * 39)
    torch.testing.assert_close(loss, share * own + (1 - share) * text_loss)
    torch.testing.assert_close(figures["kl"], own.detach())


def test_batches_go_on_from_a_position_and_see_every_answer_once_a_pass(answers: Path) -> None:
    rows = read_rows(answers, 16, cached=False)
    text = ShuffledRows({"input_ids": torch.arange(10 * 20).reshape(10, 20) % VOCABULARY}, batch=2, seed=0)
    mixture = Mixture(rows, 18, 5, text, 2)  # 8 batches of 16 answers a pass
    stream = mixture.read()
    seen = [next(stream) for _ in range(18)]
    again = mixture.read(seen[9][1])
    for number in range(10, 18):
        batch, position = next(again)
        assert position == seen[number][1]
        for name, tensor in batch.items():
            torch.testing.assert_close(tensor, seen[number][0][name])
    first_pass = {tuple(row[:13].tolist()) for batch, _ in seen[:8] for row in batch["input_ids"][batch["aligned"]]}
    assert first_pass == {tuple(row.ids.tolist()) for row in rows}


def test_a_stopped_alignment_goes_on_as_if_never_stopped(answers: Path, tmp_path: Path) -> None:
    whole = align(_model(2), answers, tmp_path / "whole", _config("kl", steps=12), cached=True)
    config = _config("kl", steps=12)
    cut = AlignConfig(**{**vars(config), "loop": LoopConfig(**{**vars(config.loop), "checkpoint_every": 5})})
    from edgespec.train import align as module

    taken: list[int] = []

    inner = module.alignment_loss(Mix.parse("kl"))

    def dying(model: torch.nn.Module, batch: Any) -> Any:
        taken.append(1)
        if len(taken) == 8:
            raise RuntimeError("the power went")
        return inner(model, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "alignment_loss", lambda *_, **__: dying)
        with pytest.raises(RuntimeError, match="the power went"):
            align(_model(2), answers, tmp_path / "cut", cut, cached=True)
    resumed = align(_model(2), answers, tmp_path / "cut", cut, cached=True)
    assert resumed.losses == whole.losses[5:]
    for name, weight in whole.weights.items():
        assert torch.equal(weight, resumed.weights[name]), name


def test_service_is_measured_at_an_interval_on_a_copy(answers: Path, tmp_path: Path) -> None:
    service = Service(_model(1, layers=2), [("t", [1, 2, 3])], max_new_tokens=8)
    draft = _model(2)
    align(draft, answers, tmp_path, _config("kl", steps=6, hook_every=2), cached=True, service=service)
    curve = read_curve(tmp_path, "acceptance_rate_t0.6")
    assert [step for step, _ in curve] == [2, 4, 6] and all(0 <= value <= 1 for _, value in curve)
    before = {name: weight.clone() for name, weight in draft.state_dict().items()}
    found = in_service(service)(0, Snapshot(draft, before))
    assert set(found) == {f"{name}_t{t}" for name in ("acceptance_rate", "block_efficiency") for t in ("0.6", "0")}
    assert all(torch.equal(weight, before[name]) for name, weight in draft.state_dict().items())


def test_answers_are_split_by_prompt_and_cut_to_a_row(tmp_path: Path) -> None:
    open_set(tmp_path / "set", {})
    rows = [_written(i, [i % 40, 2], [3, 4, 5, i % 7]) for i in range(200)] + [_written(200, list(range(20)), [1])]
    write_shard(tmp_path / "set", 0, rows)
    read = read_rows(tmp_path / "set", 5, cached=False)
    assert len(read) == 200 and {len(row.ids) for row in read} == {5}, "a prompt that fills the row is left out"
    parts = split(read, 0.3)
    prompts = [{tuple(row.ids[: row.start]) for row in side} for side in (parts.train, parts.heldout)]
    assert not prompts[0] & prompts[1] and 3 <= len(prompts[1]) <= 25
    with pytest.raises(EdgespecError, match=r"no answer in .* fits a row of 2 tokens"):
        read_rows(tmp_path / "set", 2, cached=False)


def test_what_cannot_be_aligned_is_a_sentence(answers: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="the loss 'tvd' needs the target's distribution: generate with --top-k"):
        align(_model(2), answers, tmp_path, _config("tvd"), cached=False)
    with pytest.raises(EdgespecError, match="too few for batches of 500"):
        Mixture(read_rows(answers, 16, cached=False), 500, 0)
    with pytest.raises(EdgespecError, match="pretraining rows was asked for and no data was given"):
        Mixture(read_rows(answers, 16, cached=False), 8, 0, None, 2)
    with pytest.raises(EdgespecError, match=r"share of pretraining rows must lie between 0 and 1, not 1"):
        AlignConfig(share=1)
    with pytest.raises(EdgespecError, match=r"held-out share must lie between 0 and 0.5"):
        AlignConfig(heldout=0.5)
    with pytest.raises(EdgespecError, match="at least 2 tokens, not 1"):
        AlignConfig(length=1)
