"""A twin's checkpoint: every layout loads in transformers and follows its map, token for token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgespec.errors import EdgespecError
from edgespec.plan import llama_shape, make_twin, make_twins
from edgespec.plan.cycle import draft_cycle, target_cycle
from edgespec.plan.layout import FAMILIES
from edgespec.plan.tokenizer import synthetic_vocabulary
from edgespec.plan.twin import _pool
from edgespec.twins import read_twin

VOCAB = 1024


def shape(family: str, layers: int, hidden: int, tied: bool, **more: Any) -> dict[str, Any]:
    config = llama_shape(layers, hidden, vocab=VOCAB, tied=tied)
    return config | {"model_type": family, "head_dim": 32, "max_position_embeddings": 512} | more


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_token_is_followed_by_the_maps_choice(tmp_path: Path, family: str, tied: bool) -> None:
    """In context: all tokens in random order, so that attention sees others' values too."""
    import torch
    from transformers import AutoModelForCausalLM

    folders = make_twins(shape(family, 3, 128, tied), shape(family, 1, 64, tied), 0.7, tmp_path / "twins", seed=3)
    target = target_cycle(synthetic_vocabulary(VOCAB).live, VOCAB, 3)
    ids = np.random.default_rng(0).permutation(VOCAB)
    for folder, cycle in zip(folders, (target, draft_cycle(target, 0.7, 3)), strict=True):
        model, loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        assert not any(loaded[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        with torch.no_grad():
            logits = model(torch.tensor(ids.reshape(8, -1))).logits.reshape(VOCAB, VOCAB).numpy()
        assert np.array_equal(logits.argmax(axis=1), cycle.following(ids))
        twin = read_twin(folder)
        assert twin is not None and twin["margin"] > 0.3
        first, second = np.sort(logits, axis=1)[:, [-1, -2]].T
        assert ((first - second) / first).min() > 0.2, "room for rounding"


def test_no_weights_are_zero_or_equal(tmp_path: Path) -> None:
    """Equal tensors are stored once by exporters, and zero ones may be skipped: both would make the timing lie. A norm
    of ones is folded away."""
    from safetensors.numpy import load_file

    seen = {}
    for folder in make_twins(shape("llama", 2, 128, False), shape("llama", 2, 128, True), 0.5, tmp_path / "twins"):
        for file in folder.glob("*.safetensors"):
            for name, weight in load_file(file).items():
                seen[folder.name, name] = weight
                assert weight.dtype == np.float16 and np.isfinite(weight).all()
                assert (weight == 0).mean() < 0.01 or "down_proj" in name, name
                assert np.std(weight.astype(np.float32)) > 0, name
    assert len({weight.tobytes() for weight in seen.values()}) == len(seen)


def test_the_config_is_the_shapes_and_carries_the_label(tmp_path: Path) -> None:
    given = shape("llama", 2, 128, False, auto_map={"x": "y"}, quantization_config={"bits": 4}, eos_token_id=128009)
    target, draft = make_twins(given, "1x64", 0.8, tmp_path / "twins", seed=4)
    written = [json.loads((folder / "config.json").read_bytes()) for folder in (target, draft)]
    assert {key: written[0][key] for key in ("hidden_size", "num_hidden_layers", "rope_theta", "vocab_size")} == {
        key: given[key] for key in ("hidden_size", "num_hidden_layers", "rope_theta", "vocab_size")
    }
    assert written[1]["vocab_size"] == VOCAB and written[0]["eos_token_id"] == 0
    assert "auto_map" not in written[0] and "quantization_config" not in written[0]
    for config, name, role in ((written[0], "2x128", "target"), (written[1], "1x64", "draft")):
        label = config["edgespec_twin"]
        assert (label["shape"], label["role"], label["alpha"], label["seed"]) == (name, role, 0.8, 4)
    assert (target / "tokenizer.json").read_bytes() == (draft / "tokenizer.json").read_bytes()


def test_a_vocabulary_that_is_not_the_shapes_own_is_in_the_name(tmp_path: Path) -> None:
    target, _ = make_twins(shape("llama", 1, 64, False), "1x64", 0.5, tmp_path / "twins", vocab=700)
    twin = read_twin(target)
    assert twin is not None and twin["shape"] == "1x64-v700"


def test_the_same_arguments_make_the_same_files(tmp_path: Path) -> None:
    def contents(name: str, alpha: float) -> dict[str, bytes]:
        folder = make_twins("1x64", "1x64", alpha, tmp_path / name, seed=1, vocab=700)[0].parent
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    first, again, other = contents("first", 0.5), contents("again", 0.5), contents("other", 0.8)
    assert first == again
    changed = {name for name in first if first[name] != other[name]}
    assert changed == {"target/config.json", "draft/config.json", "draft/model-00001-of-00003.safetensors"}


@pytest.mark.parametrize(
    ("draft", "alpha", "vocab", "sentence"),
    [
        ("1x64", 1.2, None, "from 0 to 1"),
        ("1x64", 0.5, 300, "at least 512 tokens, not 300"),
        ("1x64", 0.9999, None, "take a larger vocabulary"),
        (llama_shape(1, 64) | {"hidden_size": 8, "head_dim": 4}, 0.5, None, "do not stay apart in a model 8 wide"),
        (llama_shape(1, 128) | {"intermediate_size": 64}, 0.5, None, "an MLP at least as wide"),
    ],
)
def test_what_cannot_be_made_is_refused_and_leaves_nothing(
    tmp_path: Path, draft: Any, alpha: float, vocab: int | None, sentence: str
) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        make_twins(shape("llama", 1, 64, False), draft, alpha, tmp_path / "twins", vocab=vocab)
    assert not list(tmp_path.iterdir())


def test_the_numbers_that_weights_are_cut_from_are_not_kept(tmp_path: Path) -> None:
    make_twin("1x64", "target", 0.5, tmp_path / "twin", vocab=700)
    assert _pool.cache_info().currsize == 0 < _pool.cache_info().maxsize
    with pytest.raises(OSError, match="no room"), pytest.MonkeyPatch.context() as patched:
        patched.setattr("edgespec.plan.twin.write_index", _refused)
        make_twin("1x64", "target", 0.5, tmp_path / "other", vocab=700)
    assert _pool.cache_info().currsize == 0


def _refused(*_: Any) -> None:
    assert _pool.cache_info().currsize > 0
    raise OSError("no room")
