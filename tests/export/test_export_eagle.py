"""A tiny random EAGLE-3 head: exported without a tokenizer, run by openvino_genai beside its target, and refused by
whatever cannot run it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from exported_families import make_family
from scripted_server import live
from tiny_gguf import write_gguf

from edgespec.bench.plan import choose_modes
from edgespec.engine.genai import GenaiEngine
from edgespec.engine.native import NativeEngine
from edgespec.engine.step import acceptance_rate
from edgespec.errors import EdgespecError
from edgespec.export import adopt_pair, export_pair
from edgespec.pair import TOKENIZER_FILES, Pair
from edgespec.runtime import SpecPipeline
from edgespec.sampling import Sampling
from edgespec.serve import InTurn
from edgespec.settings import EXACT

HEAD: dict[str, Any] = {
    "architectures": ["LlamaForCausalLMEagle3"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 320,
    "draft_vocab_size": 80,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "pad_token_id": 0,
    "dtype": "float32",
}
PROMPT = "def add(a, b):\n    return"


def make_head(folder: Path, **changes: Any) -> Path:
    """Write a random head in the layout of published ones: keys without "model.", d2t as differences of ids."""
    import torch
    from optimum.exporters.openvino.model_patcher import LlamaEagle3ForCausalLM
    from safetensors.torch import save_file
    from transformers import LlamaConfig

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(HEAD | changes), encoding="utf-8")
    torch.manual_seed(1)
    model = LlamaEagle3ForCausalLM(LlamaConfig(**HEAD, initializer_range=0.1))
    rows = torch.arange(80)
    weights = {name.removeprefix("model."): tensor.clone() for name, tensor in model.state_dict().items()}
    weights["d2t"] = rows * 3  # token i of the head is token 4i of the target
    weights["t2d"] = torch.zeros(320, dtype=torch.bool).index_fill_(0, rows * 4, True)
    del weights["embed_tokens.weight"]  # as some publish it; openvino_genai takes the target's
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, tiny_target_checkpoint: Path) -> Path:
    folder = tmp_path_factory.mktemp("eagle") / "target"
    make_family("llama", folder, tiny_target_checkpoint, num_hidden_layers=10, initializer_range=0.3)
    return folder


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_head(tmp_path_factory.mktemp("eagle") / "head")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, target: Path, head: Path) -> Pair:
    return export_pair(target, head, tmp_path_factory.mktemp("eagle") / "pair", dtype="fp32")


def test_the_manifest_says_what_the_draft_is_and_no_tokenizer_is_made_up(pair: Pair) -> None:
    record = Pair.open(pair.root).manifest.draft
    assert record is not None
    assert (record.kind, record.architecture, record.vocab_size) == ("eagle3", "LlamaForCausalLMEagle3", 320)
    assert not set(TOKENIZER_FILES) & set(record.files)
    assert list(pair.manifest.made[0].checks["tokenizer"]) == ["target"]


def test_openvino_genai_generates_the_targets_own_tokens_with_it(pair: Pair) -> None:
    plain = GenaiEngine(pair, device="CPU", settings=EXACT)
    ids = plain.encode(PROMPT)
    expected = plain.generate(ids, 32).token_ids
    assert len(set(expected)) > 8  # not one token over and over, which anything would get right
    drafted = GenaiEngine(pair, device="CPU", mode="eagle3", settings=EXACT)
    for gamma in (1, 3, 5):
        generation = drafted.generate(ids, 32, gamma=gamma)
        assert generation.token_ids == expected
        assert sum(len(step.tokens) for step in generation.steps) == len(expected)
        assert max(step.proposed or 0 for step in generation.steps) == gamma


def test_what_a_good_head_proposes_is_accepted(tmp_path: Path, target: Path, head: Path) -> None:
    """The target says the tokens 1 to 319 round and round, whatever its context; the head reads in the target's hidden
    state of the token before which one comes after next. It knows that once a step: what it proposes later repeats."""
    import torch
    from safetensors.torch import load_file, save_file

    torch.manual_seed(2)
    rows = torch.nn.functional.normalize(torch.randn(320, 64), dim=1)
    follows = torch.arange(320) % 319 + 1
    checkpoint = Path(shutil.copytree(target, tmp_path / "target"))
    weights = load_file(checkpoint / "model.safetensors")
    for name, weight in weights.items():
        if name.endswith("norm.weight"):
            weight.fill_(1.0)
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.mul_(1e-4)
    weights["model.embed_tokens.weight"].copy_(rows)
    weights["lm_head.weight"][follows[1:]] = rows[1:]
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    good = Path(shutil.copytree(head, tmp_path / "head"))
    (good / "config.json").write_text(json.dumps(HEAD | {"draft_vocab_size": 320}), encoding="utf-8")
    own = load_file(good / "model.safetensors")
    for name in ("midlayer.self_attn.o_proj.weight", "midlayer.mlp.down_proj.weight"):
        own[name] = own[name] * 1e-4
    own["norm.weight"] = torch.ones(64)
    own["fc.weight"] = torch.cat([torch.eye(64), torch.zeros(64, 128)], dim=1)
    own["lm_head.weight"] = torch.zeros(320, 64)
    own["lm_head.weight"][follows[follows[1:]]] = rows[1:]
    own["d2t"], own["t2d"] = torch.zeros(320, dtype=torch.long), torch.ones(320, dtype=torch.bool)
    save_file(own, good / "model.safetensors")

    pair = export_pair(checkpoint, good, tmp_path / "pair", dtype="fp32")
    engine = GenaiEngine(pair, device="CPU", mode="eagle3", settings=EXACT)
    for gamma, rate in ((1, 1.0), (3, 1 / 3)):
        generation = engine.generate([5, 6, 7], 31, gamma=gamma)
        assert generation.token_ids == list(range(8, 39))
        assert acceptance_rate(generation.steps) == pytest.approx(rate, abs=0.05)


def test_the_runtime_takes_it_by_itself_and_says_why(pair: Pair) -> None:
    with SpecPipeline(pair) as pipeline:
        assert pipeline.choose()[0] == "plain" and "to measure it" in pipeline.choose()[1]
        assert pipeline.generate(PROMPT, max_new_tokens=8).metrics.mode == "plain"
        assert pipeline.choose() == ("eagle3", "greedy, and the pair's draft is an EAGLE-3 head")
        assert pipeline.choose(temperature=0.8)[0] == "native-adaptive-copy"
        assert pipeline.generate(PROMPT, max_new_tokens=4).metrics.mode == "eagle3"


def test_the_server_answers_with_it_and_says_what_it_cannot_do(pair: Pair) -> None:
    ask = {"model": "tiny", "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
    with SpecPipeline(pair, mode="plain") as pipeline:
        plain = pipeline.generate(PROMPT, max_new_tokens=8, temperature=0)
    backend = InTurn(pair.root, device="CPU", mode="eagle3")
    try:
        with live(backend) as server:
            url = f"{server.url}/v1/completions"
            answered = httpx.post(url, json=ask, timeout=60)
            assert answered.status_code == 200, answered.text
            assert answered.json()["usage"]["completion_tokens"] == len(plain.token_ids) >= 4
            assert answered.json()["choices"][0]["text"] == plain.text
            assert answered.json()["usage"]["completion_tokens_details"]["rejected_prediction_tokens"] > 0
            streamed = httpx.post(url, json=ask | {"stream": True}, timeout=60).text.split("\n\n")
            pieces = [json.loads(event.removeprefix("data: ")) for event in streamed[:-2]]
            said = "".join(piece["choices"][0]["text"] for piece in pieces)
            assert said == answered.json()["choices"][0]["text"]
            sampled = httpx.post(url, json=ask | {"temperature": 1}, timeout=60)
            assert sampled.status_code == 400
            said = sampled.json()["error"]["message"]
            assert said.startswith("mode 'eagle3' was asked for, but at temperature above 0 ")
            assert "does not follow the target's distribution" in said and said.endswith("or use mode auto")
    finally:
        backend.close()


def test_modes_that_cannot_run_it_say_so(pair: Pair, tiny_pair: Path) -> None:
    says = (
        r"is an EAGLE-3 head, which reads the target's hidden states and so is no draft for mode '{}'; use mode eagle3"
    )
    with pytest.raises(EdgespecError, match=says.format("draft")):
        GenaiEngine(pair, device="CPU", mode="draft")
    with pytest.raises(EdgespecError, match="mode 'draft' cannot be used: the pair's draft is an EAGLE-3 head"):
        SpecPipeline(pair, mode="draft")
    with pytest.raises(EdgespecError, match=says.format("native-draft")):
        NativeEngine(pair, device="CPU", mode="draft")
    with pytest.raises(EdgespecError, match=r"needs an EAGLE-3 head and the draft of .* is none; use mode draft"):
        GenaiEngine(Pair.open(tiny_pair), device="CPU", mode="eagle3")
    with pytest.raises(EdgespecError, match="mode 'eagle3' does not follow the target's distribution"):
        GenaiEngine(pair, device="CPU", mode="eagle3").generate([1, 2], 4, sampling=Sampling(temperature=1.0))


def test_bench_measures_it_in_place_of_the_draft(pair: Pair) -> None:
    def any_device(_device: str, _mode: str) -> None:
        pass

    assert choose_modes(None, True, "CPU", any_device, head=True)[0] == ("plain", "eagle3", "lookup")
    assert choose_modes(None, True, "CPU", any_device)[0] == ("plain", "draft", "lookup")
    with pytest.raises(
        EdgespecError, match="'draft' cannot be measured: the pair's draft is an EAGLE-3 head; use eagle3"
    ):
        choose_modes(["plain", "draft"], True, "CPU", any_device, head=True)
    with pytest.raises(EdgespecError, match="'eagle3' cannot be measured: the pair's draft is no EAGLE-3 head"):
        choose_modes(["plain", "eagle3"], True, "CPU", any_device)


def test_an_exported_head_is_adopted_with_its_target(tmp_path: Path, pair: Pair) -> None:
    assert pair.draft is not None
    adopted = adopt_pair(pair.target, pair.draft, tmp_path / "again")
    assert adopted.manifest.draft is not None and pair.manifest.draft is not None
    assert adopted.manifest.draft.kind == "eagle3"
    assert adopted.manifest.draft.files == pair.manifest.draft.files


def test_an_exported_head_is_no_target_and_goes_with_no_gguf(
    tmp_path: Path, pair: Pair, tiny_target_checkpoint: Path
) -> None:
    assert pair.draft is not None
    with pytest.raises(EdgespecError, match="is an EAGLE-3 head, which drafts for a model and is none; give it as the"):
        adopt_pair(pair.draft, None, tmp_path / "out")
    gguf = write_gguf(tiny_target_checkpoint, tmp_path / "tiny.gguf")
    with pytest.raises(
        EdgespecError, match="an EAGLE-3 head needs its target as an OpenVINO model, not as a GGUF file"
    ):
        adopt_pair(gguf, pair.draft, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hidden_size": 32}, "it reads hidden states of 32 numbers, and the target's have 64"),
        ({"target_hidden_size": 128}, "it reads hidden states of 128 numbers, and the target's have 64"),
        ({"vocab_size": 384}, "its embedding has 384 rows, and the target's has 320"),
        ({"num_hidden_layers": 2}, "is an EAGLE-3 head of 2 layers, and openvino-genai runs heads of one"),
        ({"model_type": "qwen3"}, "is an EAGLE-3 head of another layout .*model type 'qwen3'"),
        ({"target_model_type": "qwen3_vl"}, "is an EAGLE-3 head for a model that sees images"),
        (
            {"architectures": ["LlamaForCausalLMEagle"], "draft_vocab_size": None},
            "is an EAGLE head .* of a generation that openvino-genai does not run",
        ),
    ],
)
def test_a_head_that_cannot_be_used_is_refused_early(
    tmp_path: Path, target: Path, head: Path, changes: dict[str, Any], says: str
) -> None:
    other = Path(shutil.copytree(head, tmp_path / "in" / "head"))
    config = {key: value for key, value in (HEAD | changes).items() if value is not None}
    (other / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(EdgespecError, match=says):
        export_pair(target, other, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_head_is_no_target_and_wants_ten_layers(tmp_path: Path, head: Path, tiny_target_checkpoint: Path) -> None:
    with pytest.raises(
        EdgespecError, match=r"is an EAGLE-3 head .*, which drafts for a model and is none; give the model"
    ):
        export_pair(head, None, tmp_path / "out")
    with pytest.raises(EdgespecError, match=r"has 2 layers, and openvino-genai takes hidden states .* of at least 10"):
        export_pair(tiny_target_checkpoint, head, tmp_path / "out")


def test_a_head_that_lacks_a_weight_is_not_made_up(tmp_path: Path, target: Path, head: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = Path(shutil.copytree(head, tmp_path / "head"))
    weights = load_file(other / "model.safetensors")
    del weights["fc.weight"]
    save_file(weights, other / "model.safetensors")
    with pytest.raises(
        EdgespecError, match=r"lack 1 of the model's weights, such as 'model.fc.weight', and transformers"
    ):
        export_pair(target, other, tmp_path / "out")
    assert not (tmp_path / "out").exists()
