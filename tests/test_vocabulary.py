"""Vocabularies are compared by content: each difference that changes ids is named, nothing else matters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgespec.errors import EdgespecError
from edgespec.vocabulary import compare, fingerprint, require_shared, vocab_size

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def original(tmp_path: Path, tiny_target_checkpoint: Path) -> Path:
    return _copy(tiny_target_checkpoint, tmp_path / "original")


def _copy(source: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in source.glob("*.json"):
        shutil.copyfile(path, folder / path.name)
    return folder


def _edited(source: Path, name: str, edit: Edit) -> Path:
    folder = _copy(source, source.with_name("edited"))
    document = json.loads((folder / name).read_text(encoding="utf-8"))
    edit(document)
    (folder / name).write_text(json.dumps(document), encoding="utf-8")
    return folder


def _swap_ids(document: dict[str, Any]) -> None:
    vocab = document["model"]["vocab"]
    first, second = list(vocab)[40:42]
    vocab[first], vocab[second] = vocab[second], vocab[first]


def _swap_merges(document: dict[str, Any]) -> None:
    merges = document["model"]["merges"]
    merges[3], merges[4] = merges[4], merges[3]


def _add_token(document: dict[str, Any]) -> None:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    document["added_tokens"].append({"id": 300, "content": "<|tool|>", **flags})


def _template(document: dict[str, Any]) -> None:
    token = "<|endoftext|>"
    document["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {token: {"id": token, "ids": [0], "tokens": [token]}},
    }


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_swap_ids, "the ids of 2 tokens, target and draft"),
        (_swap_merges, "the merges (43 in the target, 43 in the draft), first at rank 3"),
        (lambda d: d["model"]["merges"].pop(), "the merges (43 in the target, 42 in the draft), first at rank 42"),
        (_add_token, "tokens that only the draft has: '<|tool|>' (id 300)"),
        (lambda d: d["added_tokens"][0].update(lstrip=True), "how the added token '<|endoftext|>' matches (lstrip)"),
        (lambda d: d.update(normalizer={"type": "NFKC"}), 'the normaliser: none in the target, {"type": "NFKC"}'),
        (lambda d: d["pre_tokenizer"].update(add_prefix_space=True), "the pre-tokenizer: "),
        (lambda d: d["model"].update(ignore_merges=True), "the tokenizer's model: "),
        (_template, "the ids put around a text: "),
    ],
)
def test_each_difference_is_named(original: Path, edit: Edit, says: str) -> None:
    edited = _edited(original, "tokenizer.json", edit)
    assert any(difference.startswith(says) for difference in compare(original, edited))
    assert fingerprint(original) != fingerprint(edited)


@pytest.mark.parametrize("name", ["bos", "eos", "pad"])
def test_special_ids_are_compared(original: Path, name: str) -> None:
    edited = _edited(original, "tokenizer_config.json", lambda d: d.update({f"{name}_token": "!"}))
    assert compare(original, edited) == [f"{name}: 0 in the target, 1 in the draft"]
    assert fingerprint(original) != fingerprint(edited)


def test_special_ids_come_from_the_model_when_the_tokenizer_is_silent(original: Path) -> None:
    silent = _edited(original, "tokenizer_config.json", lambda d: [d.pop(f"{name}_token") for name in ("bos", "eos")])
    assert compare(original, silent) == []
    (silent / "generation_config.json").write_text('{"bos_token_id": 0, "eos_token_id": [5, 0]}', encoding="utf-8")
    assert compare(original, silent) == ["eos: 0 in the target, 5 in the draft"]


def test_what_does_not_decide_ids_is_ignored(original: Path) -> None:
    def edit(document: dict[str, Any]) -> None:
        document["truncation"] = {"direction": "Left", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
        document["padding"] = {"strategy": "BatchLongest", "direction": "Left", "pad_id": 0}
        document["pre_tokenizer"]["trim_offsets"] = not document["pre_tokenizer"]["trim_offsets"]
        document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]  # the older spelling
        document["model"]["vocab"] = dict(reversed(document["model"]["vocab"].items()))
        document["normalizer"] = {"type": "Sequence", "normalizers": []}

    edited = _edited(original, "tokenizer.json", edit)
    (edited / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    assert compare(original, edited) == []
    assert fingerprint(original) == fingerprint(edited)


def test_a_padded_embedding_passes(original: Path) -> None:
    assert compare(original, _edited(original, "config.json", lambda d: d.update(vocab_size=384))) == []


def test_unigram_scores_are_compared(tmp_path: Path) -> None:
    for name, score in (("a", -1.0), ("b", -2.0)):
        (tmp_path / name).mkdir()
        model = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["x", score]]}
        (tmp_path / name / "tokenizer.json").write_text(json.dumps({"model": model}), encoding="utf-8")
    assert compare(tmp_path / "a", tmp_path / "b") == ["the tokens' scores"]


def test_older_metaspace_spelling_is_the_same(tmp_path: Path) -> None:
    old = {"type": "Metaspace", "replacement": "▁", "str_rep": "▁", "add_prefix_space": True}
    new = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    for name, step in (("old", old), ("new", {"type": "Sequence", "pretokenizers": [new]})):
        (tmp_path / name).mkdir()
        document = {"model": {"type": "BPE", "vocab": {"x": 0}, "merges": []}, "pre_tokenizer": step}
        (tmp_path / name / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    assert compare(tmp_path / "old", tmp_path / "new") == []


def test_require_shared_is_one_sentence_that_names_both(original: Path) -> None:
    edited = _edited(original, "tokenizer.json", _add_token)
    with pytest.raises(EdgespecError, match=r"'big' and the draft 'small' do not share a vocabulary.*<\|tool\|>"):
        require_shared(original, edited, "big", "small")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "has no tokenizer.json"),
        ('{"model": ', "cannot be read as JSON"),
        ("[]", "does not hold a JSON object"),
        ('{"version": "1.0"}', "it has no model with a vocabulary"),
        ('{"model": {"vocab": {}}, "added_tokens": [{"content": "x"}]}', "is not laid out as a tokenizer.json"),
    ],
)
def test_a_tokenizer_that_is_none_is_refused(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(EdgespecError, match=says):
        fingerprint(tmp_path)


def test_vocab_size_is_read_from_either_place() -> None:
    assert vocab_size({"vocab_size": 320}) == 320
    assert vocab_size({"text_config": {"vocab_size": 262208}}) == 262208
    assert vocab_size({}) == 0
