"""A draft of each family from a tiny target: loads, shares the vocabulary, and copies compute what they should."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_checkpoint import VOCAB_ROWS, make_tokenizer
from transformers import AutoModelForCausalLM

from edgespec import vocabulary
from edgespec.bundled import bundled_checkpoints
from edgespec.errors import EdgespecError
from edgespec.export import export_pair
from edgespec.train import InitConfig, Shape, make_draft
from edgespec.train.cross_entropy import next_token_loss
from edgespec.train.shapes import FAMILIES, choose_shape, parameters, spread

CONFIGS = {
    "llama": "LlamaConfig", "mistral": "MistralConfig", "qwen2": "Qwen2Config", "qwen3": "Qwen3Config",
    "phi3": "Phi3Config", "gemma": "GemmaConfig", "gemma2": "Gemma2Config", "gemma3_text": "Gemma3TextConfig",
}  # fmt: skip


def _config(family: str, **options: Any) -> Any:
    pairs = 4 if family == "phi3" else 2
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    own = {} if family in ("phi3", "qwen2") else {"head_dim": 16}
    kinds = {"sliding_window": 32} if family in ("mistral", "gemma2", "gemma3_text") else {}
    return getattr(transformers, CONFIGS[family])(
        vocab_size=VOCAB_ROWS, num_key_value_heads=pairs, max_position_embeddings=256, initializer_range=0.1,
        **{**sizes, **ids, **own, **kinds, **options},
    )  # fmt: skip


def _target(folder: Path, family: str, **options: Any) -> Path:
    make_tokenizer(folder)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(_config(family, **options))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.add_(0.2 * torch.randn_like(weight))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("targets")
    return {family: _target(root / family, family) for family in FAMILIES}


def _load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


IDS = torch.randint(0, 300, (2, 12), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("family", FAMILIES)
def test_all_layers_copied_are_the_target_and_fewer_are_its_own(
    family: str, targets: dict[str, Path], tmp_path: Path
) -> None:
    layers = (0, 1, 3)
    record = make_draft(str(targets[family]), InitConfig(beginning="copy", layers=layers), tmp_path / "draft")
    draft, target = _load(tmp_path / "draft"), _load(targets[family])
    assert record["parameters"] == sum(weight.numel() for weight in draft.parameters())
    assert vocabulary.compare(targets[family], tmp_path / "draft") == []
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "vocab_size"):
        assert getattr(draft.config, name) == getattr(target.config, name)
    # taking the others out of the target leaves the same function
    kept = [target.model.layers[layer] for layer in layers]
    for number, layer in enumerate(kept):
        layer.self_attn.layer_idx = number
    target.model.layers = torch.nn.ModuleList(kept)
    target.config.num_hidden_layers = 3
    torch.testing.assert_close(draft(IDS).logits, target(IDS).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("beginning", ["scratch", "project"])
@pytest.mark.parametrize("head", ["tied", "untied"])
def test_each_family_trains_from_each_beginning(
    family: str, beginning: Any, head: Any, targets: dict[str, Path], tmp_path: Path
) -> None:
    config = InitConfig(Shape(2, 32), beginning=beginning, head=head)
    record = make_draft(str(targets[family]), config, tmp_path / "draft")
    draft = _load(tmp_path / "draft")
    assert (draft.config.hidden_size, len(draft.model.layers), record["head"]) == (32, 2, head)
    assert (draft.lm_head.weight is draft.model.embed_tokens.weight) == (head == "tied")
    assert parameters(draft.config) == record["parameters"]
    loss, _ = next_token_loss(draft, {"input_ids": IDS})
    loss.backward()
    assert math.isfinite(loss.item()) and loss.item() < 3 * math.log(VOCAB_ROWS)
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in draft.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_projection_that_loses_nothing_is_the_target(family: str, targets: dict[str, Path]) -> None:
    """With a square basis only Gemma's norms behind a layer, whose gains cannot be folded, and a tied head's are
    approximate; with gains of one nothing is."""
    from edgespec.train.init import _fill
    from edgespec.train.target_weights import TargetWeights

    target = _load(targets[family])
    with torch.no_grad():
        for name, weight in target.named_parameters():
            if "layernorm" in name or name == "model.norm.weight":
                weight.fill_(0.0 if family.startswith("gemma") else 1.0)
    state = {name: weight.clone() for name, weight in target.state_dict().items()}

    class Here(TargetWeights):
        def __init__(self) -> None:
            self._where = {name: (Path(), name) for name in state}

        def get(self, name: str) -> torch.Tensor:
            return state[name]

    draft = AutoModelForCausalLM.from_config(copy.deepcopy(target.config), dtype=torch.float32).eval()
    _fill(draft, target.config, draft.config, range(4), Here(), project=True)
    assert not torch.allclose(draft.model.embed_tokens.weight, target.model.embed_tokens.weight)
    torch.testing.assert_close(draft(IDS).logits, target(IDS).logits, rtol=1e-3, atol=1e-3)


def test_projecting_a_trained_target_begins_below_chance(tmp_path: Path) -> None:
    target, _ = bundled_checkpoints()
    text = (Path(__file__).parent.parent.parent / "train" / "loop.py").read_text(encoding="utf-8")
    ids = transformers.AutoTokenizer.from_pretrained(target)(text)["input_ids"][:1024]
    losses = {}
    for beginning in ("scratch", "project"):
        make_draft(str(target), InitConfig(Shape(2, 256), beginning=beginning), tmp_path / beginning)  # type: ignore[arg-type]
        with torch.no_grad():
            losses[beginning] = float(
                next_token_loss(_load(tmp_path / beginning), {"input_ids": torch.tensor([ids])})[0]
            )
    assert losses["project"] < math.log(8192) - 0.5 < losses["scratch"]


def test_a_draft_and_its_target_are_a_pair_that_genai_runs(targets: dict[str, Path], tmp_path: Path) -> None:
    from edgespec.engine.genai import GenaiEngine

    make_draft(str(targets["llama"]), InitConfig(Shape(1, 32), beginning="project"), tmp_path / "draft")
    pair = export_pair(targets["llama"], tmp_path / "draft", tmp_path / "pair")
    engine = GenaiEngine(pair, device="CPU", mode="draft")
    answer = engine.generate(engine.encode("def add("), 8, gamma=2)
    assert len(answer.token_ids) >= 1


@pytest.mark.parametrize("family", ["qwen3", "phi3", "gemma2", "gemma3_text", "mistral", "qwen2", "gemma"])
def test_drafts_of_the_other_families_export(family: str, targets: dict[str, Path], tmp_path: Path) -> None:
    make_draft(str(targets[family]), InitConfig(Shape(1, 32)), tmp_path / "draft")
    pair = export_pair(tmp_path / "draft", None, tmp_path / "pair")
    assert (pair.target / "openvino_model.xml").is_file()
    assert pair.manifest.tokenizer == vocabulary.fingerprint(targets[family])


def test_a_budget_makes_a_shallow_wide_draft() -> None:
    """The vocabulary and width of Phi-3-mini: FastDraft's 50 M."""
    phi = transformers.Phi3Config(num_key_value_heads=32)
    shape = choose_shape(phi, 50_000_000, "untied", like_target=False)
    assert 2 <= shape.layers <= 8 and shape.hidden >= 384
    from edgespec.train.shapes import draft_config

    made = draft_config(phi, shape, spread(shape.layers, 32), "untied", like_target=False)
    assert parameters(made) == pytest.approx(50e6, rel=0.1)
    assert made.hidden_size % made.num_attention_heads == 0


@pytest.mark.parametrize("beginning", ["scratch", "project"])
def test_the_draft_has_about_the_parameters_asked_for(beginning: Any, tmp_path: Path) -> None:
    target, _ = bundled_checkpoints()
    record = make_draft(str(target), InitConfig(parameters=5_000_000, beginning=beginning), tmp_path / "draft")
    assert record["parameters"] == pytest.approx(5e6, rel=0.1) and record["head"] == "tied"


def test_layers_are_spread_with_the_ends() -> None:
    assert spread(3, 12) == [0, 6, 11] and spread(1, 9) == [0] and spread(4, 4) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (lambda: InitConfig(), "say how large the draft is to be"),
        (lambda: InitConfig(Shape(1, 32), 10**6), "not both"),
        (lambda: InitConfig(Shape.parse("4-32")), "the shape is '4-32'; give layers and hidden size as in 4x640"),
        (lambda: InitConfig(Shape(2, 32), layers=(0, 1)), "copies no layers"),
        (
            lambda: InitConfig(Shape(2, 64), beginning="copy", layers=(0,)),
            "1 layers of the target are named and .* has 2",
        ),
        (lambda: InitConfig(Shape(2, 64), beginning="copy", layers=(1, 9)), "the target has 0 to 3"),
        (lambda: InitConfig(Shape(2, 32), beginning="copy"), "at the target's hidden size alone, 64, .* project"),
        (lambda: InitConfig(Shape(9, 64)), "larger than its target, 4x64"),
        (lambda: InitConfig(Shape(4, 64)), "no smaller than its target"),
        (lambda: InitConfig(parameters=10**9), "no draft of about 1000.0 M parameters"),
    ],
)
def test_what_cannot_be_made_is_a_sentence(
    config: Any, sentence: str, targets: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        make_draft(str(targets["llama"]), config(), tmp_path / "draft")
    assert not (tmp_path / "draft").exists()


def test_another_family_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "gpt2").mkdir()
    transformers.GPT2Config().save_pretrained(tmp_path / "gpt2")
    with pytest.raises(EdgespecError, match="the target is a 'gpt2' and drafts can be made for llama, mistral"):
        make_draft(str(tmp_path / "gpt2"), InitConfig(Shape(1, 64)), tmp_path / "draft")


def test_a_target_without_weights_gives_a_shape_and_no_copy(targets: dict[str, Path], tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    make_tokenizer(bare)
    (bare / "config.json").write_text((targets["llama"] / "config.json").read_text())
    assert make_draft(str(bare), InitConfig(Shape(1, 32)), tmp_path / "draft")["shape"] == "1x32"
    with pytest.raises(EdgespecError, match="has no safetensors, so nothing can be copied"):
        make_draft(str(bare), InitConfig(Shape(1, 32), beginning="project"), tmp_path / "other")
    assert json.loads((tmp_path / "draft" / "init.json").read_text())["from_target"] == "scratch"
