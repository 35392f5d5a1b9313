"""A repository for OVMS: what stands in it follows from the pair and its profile, its graph parses by the published
numbers, openvino-genai loads it as OVMS would, and what OVMS cannot do is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format

from edgespec.errors import EdgespecError
from edgespec.package import package_for_ovms
from edgespec.package.graph import read_graph, read_options, write_graph
from edgespec.package.kserve import resource_name
from edgespec.package.rules import Ask, deploy
from edgespec.package.schema import MESSAGES, OPTIONS, message_class
from edgespec.pair import ModelRecord, Pair, write_manifest
from edgespec.profile import SCHEMA


def profile(**fields: Any) -> dict[str, Any]:
    """As `edgespec tune` would have written it, on another machine."""
    return {
        "schema_version": SCHEMA, "machine_fingerprint": "other",
        "machine": {"cpu": "Some CPU", "physical_cores": 4, "logical_cores": 8, "system": "Linux"},
        "device": "CPU", "device_name": "Some CPU", "draft_device": None, "draft_devices": [], "engine": "genai",
        "mode": "draft", "gamma": 4, "threshold": None, "settings": {"INFERENCE_PRECISION_HINT": "f32"},
        "tokens_per_second": 9.0, "plain": {"engine": "genai", "settings": {}, "tokens_per_second": 5.0},
        "default_tokens_per_second": None, "over_plain": None, "over_default": None, "quality": None,
        "prompts": "code", "prompts_sha256": "0", "max_new_tokens": 64, "tried": 3, "stopped_because": "done",
        "seconds": 1.0, "at": "2026-11-01T00:00:00+00:00", "versions": {},
    } | fields  # fmt: skip


def pair_with(tiny_pair: Path, draft: dict[str, Any] | None = None, **manifest: Any) -> Pair:
    """The tiny pair with another manifest, in memory."""
    found = Pair.open(tiny_pair, verify=False)
    assert found.manifest.draft is not None
    if draft is not None:
        manifest["draft"] = found.manifest.draft.model_copy(update=draft)
    return Pair(found.root, found.manifest.model_copy(update=manifest))


def test_the_repository_holds_what_ovms_reads(tiny_pair: Path, tmp_path: Path) -> None:
    root = tmp_path / "pair"
    shutil.copytree(tiny_pair, root)
    write_manifest(root, Pair.open(root).manifest.model_copy(update={"profiles": [profile()]}))
    made = package_for_ovms(root, tmp_path / "repo", name="tiny")
    repo = tmp_path / "repo"
    assert json.loads((repo / "config.json").read_text()) == {
        "model_config_list": [{"config": {"name": "tiny", "base_path": "tiny"}}]
    }
    pair = Pair.open(root)
    for role, folder in (("target", repo / "tiny"), ("draft", repo / "tiny" / "draft")):
        for file in (root / role).iterdir():
            if (role, file.name) != ("target", "generation_config.json"):
                assert (folder / file.name).read_bytes() == file.read_bytes()
    config = json.loads((repo / "tiny" / "generation_config.json").read_text())
    assert config["num_assistant_tokens"] == 4 and config["temperature"] == 0.0
    assert config["eos_token_id"] == json.loads((pair.target / "generation_config.json").read_text())["eos_token_id"]
    options = read_options((repo / "tiny" / "graph.pbtxt").read_text())
    assert options == made["graph"] == {
        "models_path": "./", "device": "CPU", "cache_size": 4, "enable_prefix_caching": False,
        "plugin_config": '{"INFERENCE_PRECISION_HINT": "f32"}', "draft_models_path": "draft", "draft_device": "CPU",
        "draft_cache_size": 2,
    }  # fmt: skip
    assert not (repo / "kserve").exists() and not list(tmp_path.glob(".repo*"))


def test_openvino_genai_loads_it_as_ovms_would(tiny_pair: Path, tmp_path: Path) -> None:
    """By the calls of its servable_initializer.cpp, and answers as the pair does."""
    import openvino_genai

    from edgespec import SpecPipeline

    package_for_ovms(tiny_pair, tmp_path / "repo", name="tiny", gamma=2, cache_gb=1)
    model = tmp_path / "repo" / "tiny"
    options = read_options((model / "graph.pbtxt").read_text())
    base = openvino_genai.GenerationConfig(str(model / "generation_config.json"))
    assert base.num_assistant_tokens == 2 and base.temperature == 0.0
    target, draft = openvino_genai.SchedulerConfig(), openvino_genai.SchedulerConfig()
    target.cache_size, draft.cache_size = options["cache_size"], options["draft_cache_size"]
    target.enable_prefix_caching = draft.enable_prefix_caching = options["enable_prefix_caching"]
    drafting = openvino_genai.draft_model(
        str(model / options["draft_models_path"]), options["draft_device"], scheduler_config=draft
    )
    pipeline = openvino_genai.ContinuousBatchingPipeline(
        str(model / options["models_path"]), target, options["device"],
        {"draft_model": drafting, "INFERENCE_PRECISION_HINT": "f32"},
    )  # fmt: skip
    base.max_new_tokens, base.apply_chat_template = 12, False
    prompt = "def add(a, b):\n    return"
    found = pipeline.generate([prompt], [base])[0].m_generation_ids[0]
    with SpecPipeline(tiny_pair, device="CPU", mode="plain", settings={"INFERENCE_PRECISION_HINT": "f32"}) as plain:
        assert found.startswith(plain.generate(prompt, max_new_tokens=6).text)


def test_the_graph_is_the_one_the_calculator_prescribes() -> None:
    graph = read_graph(write_graph({"models_path": "./"}))
    (node,) = graph.node
    assert node.calculator == "HttpLLMCalculator" and list(node.input_side_packet) == ["LLM_NODE_RESOURCES:llm"]
    assert list(graph.input_stream) == ["HTTP_REQUEST_PAYLOAD:input"]
    assert list(graph.output_stream) == ["HTTP_RESPONSE_PAYLOAD:output"]
    assert list(node.input_stream) == ["LOOPBACK:loopback", *graph.input_stream]
    assert list(node.output_stream) == ["LOOPBACK:loopback", *graph.output_stream]
    assert [(info.tag_index, info.back_edge) for info in node.input_stream_info] == [("LOOPBACK:0", True)]
    assert 'tag_index: "LOOPBACK:0"' in write_graph({"models_path": "./"}).split("sync_set")[1]


def test_the_schema_knows_no_field_that_ovms_has_not() -> None:
    """num_assistant_tokens has no field there, nor have a draft's plugin settings; a slip is refused, not written."""
    text = write_graph({"models_path": "./", "draft_models_path": "draft"})
    for slip in ("num_assistant_tokens: 3", "draft_plugin_config: '{}'", "cache_size: 'four'", "cache_size: -1"):
        with pytest.raises(EdgespecError, match="does not follow the published schema"):
            read_graph(text.replace('models_path: "./"', f'models_path: "./" {slip}', 1))
    with pytest.raises(ValueError, match="num_assistant_tokens"):
        write_graph({"models_path": "./", "num_assistant_tokens": 3})


def test_fields_travel_under_the_published_numbers() -> None:
    """On the wire: (number << 3 | type), as llm_calculator.proto numbers them."""
    wire = message_class(OPTIONS)(draft_eagle3_mode=True, draft_cache_size=2, cache_size=4).SerializeToString()
    assert wire == bytes([3 << 3, 4, 14 << 3, 2, *((18 << 3) % 128 + 128, 1), 1])
    numbers = {name: number for name, (number, _) in MESSAGES["LLMCalculatorOptions"].items()}
    assert numbers == {
        "models_path": 1, "max_num_batched_tokens": 2, "cache_size": 3, "max_num_seqs": 4, "dynamic_split_fuse": 5,
        "device": 6, "plugin_config": 7, "max_tokens_limit": 9, "enable_prefix_caching": 10, "draft_models_path": 11,
        "draft_device": 12, "draft_cache_size": 14, "draft_eagle3_mode": 18,
    }  # fmt: skip
    assert text_format.MessageToString(message_class(OPTIONS)(models_path="./")) == 'models_path: "./"\n'


def test_an_eagle3_head_has_rules_of_its_own(tiny_pair: Path) -> None:
    plan = deploy(pair_with(tiny_pair, {"kind": "eagle3"}), Ask("m", gamma=5))
    assert plan.options["draft_eagle3_mode"] is True and plan.options["max_num_seqs"] == 1
    assert plan.options["enable_prefix_caching"] is False and plan.arguments == ("--rest_workers=2",)
    assert any("one request at a time" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("tuned", "options", "generation", "note"),
    [
        ({"mode": "plain", "gamma": None}, {"enable_prefix_caching": True}, {}, "nothing faster than plain decoding"),
        (
            {"mode": "lookup", "gamma": 5}, {"dynamic_split_fuse": False},
            {"num_assistant_tokens": 5, "max_ngram_size": 3}, "prompt lookup fastest",
        ),
        (
            {"gamma": None, "threshold": 0.4}, {"draft_models_path": "draft"},
            {"assistant_confidence_threshold": 0.4, "temperature": 0.0}, "plugin settings",
        ),
        (
            {"engine": "native", "mode": "hybrid", "gamma": None}, {"draft_models_path": "draft"},
            {"temperature": 0.0}, "which is edgespec's own",
        ),
    ],
)  # fmt: skip
def test_the_profile_decides(
    tiny_pair: Path, tuned: dict[str, Any], options: dict[str, Any], generation: dict[str, Any], note: str
) -> None:
    plan = deploy(pair_with(tiny_pair, profiles=[profile(**tuned)]), Ask("m"))
    assert options.items() <= plan.options.items() and plan.generation == generation
    assert any(note in said for said in plan.notes), plan.notes
    assert plan.draft == ("draft_models_path" in plan.options)
    assert (
        ('"prompt_lookup": true' in plan.options["plugin_config"]) == (tuned["mode"] == "lookup")
        if "mode" in tuned
        else True
    )


def test_without_a_profile_ovms_has_its_own_default_and_a_gamma_goes_first(tiny_pair: Path) -> None:
    plan = deploy(pair_with(tiny_pair), Ask("m"))
    assert plan.generation == {"temperature": 0.0} and any("its default (5)" in note for note in plan.notes)
    tuned = pair_with(tiny_pair, profiles=[profile(mode="plain", gamma=None)])
    assert deploy(tuned, Ask("m", gamma=2)).generation == {"num_assistant_tokens": 2, "temperature": 0.0}
    alone = deploy(
        Pair(tuned.root, tuned.manifest.model_copy(update={"draft": None, "profiles": []})),
        Ask("m"),
    )
    assert not alone.draft and "draft_cache_size" not in alone.options and alone.notes == []


@pytest.mark.parametrize(
    ("tuned", "words"),
    [
        ({"mode": "plain", "gamma": None}, "found nothing faster than plain decoding: the draft stays at home"),
        ({"mode": "lookup", "gamma": 5}, "found prompt lookup fastest: the draft stays at home"),
    ],
)
@pytest.mark.parametrize("where", ["GPU", "NPU", "CPU"])
def test_a_device_for_a_draft_that_stays_at_home_is_refused_and_not_dropped(
    tiny_pair: Path, tuned: dict[str, Any], words: str, where: str
) -> None:
    pair = pair_with(tiny_pair, profiles=[profile(**tuned)])
    with pytest.raises(EdgespecError, match=f"a draft device was given.*goes without its draft.*{words}.*a gamma"):
        deploy(pair, Ask("m", draft_device=where))
    if where != "NPU":
        assert deploy(pair, Ask("m", draft_device=where, gamma=2)).options["draft_device"] == where


def test_an_npu_is_not_refused_for_a_draft_that_stays_at_home(tiny_pair: Path) -> None:
    """OVMS 2026.3 has no draft there; a profile that found plain decoding fastest needs none. A gamma does."""
    pair = pair_with(tiny_pair, profiles=[profile(device="NPU", mode="plain", gamma=None, settings={})])
    assert not deploy(pair, Ask("m", device="NPU", release="2026.3")).draft
    with pytest.raises(EdgespecError, match=r"OVMS 2026\.3 has no draft on an NPU"):
        deploy(pair, Ask("m", device="NPU", release="2026.3", gamma=3))
    moe = pair.manifest.target.model_copy(update={"architecture": "Qwen3MoeForCausalLM"})
    plain = pair_with(tiny_pair, {"kind": "eagle3"}, target=moe, profiles=[profile(mode="plain", gamma=None)])
    assert not deploy(plain, Ask("m", release="2025.4")).draft, "nor is a head that stays at home"


def test_on_an_npu_nothing_is_written_that_is_ignored_there(tiny_pair: Path) -> None:
    plan = deploy(pair_with(tiny_pair), Ask("m", device="NPU", gamma=2))
    assert plan.options == {
        "models_path": "./", "device": "NPU", "draft_models_path": "draft", "draft_device": "NPU",
    }  # fmt: skip
    assert any("MAX_PROMPT_LEN" in note for note in plan.notes)
    longer = profile(device="NPU", mode="draft", settings={"MAX_PROMPT_LEN": 500_000})
    assert deploy(pair_with(tiny_pair, profiles=[longer]), Ask("m", device="NPU")).memory_bytes > plan.memory_bytes
    assert deploy(pair_with(tiny_pair), Ask("m")).memory_bytes - plan.memory_bytes > 5 * 10**9, "caches by the gigabyte"


@pytest.mark.parametrize(
    ("draft", "ask", "words"),
    [
        ({}, Ask("m", device="NPU", release="2026.3"), "OVMS 2026.3 has no draft on an NPU; use 2026.4 or later"),
        ({}, Ask("m", draft_device="NPU"), "put both on the NPU, or neither"),
        ({"kind": "eagle3"}, Ask("m", release="2025.4"), "OVMS 2025.4 has no EAGLE-3; use 2026.0 or later"),
        ({"kind": "eagle3"}, Ask("m", device="NPU"), "continuous batching, which an NPU has not"),
        ({}, Ask("m", release="2031.1"), "the rules of OVMS 2031.1 are not known"),
        ({}, Ask("../m"), "is no name for a model"),
        ({}, Ask("m", cache_gb=0), "at least 1 GB"),
        ({}, Ask("m", device="NPU", cache_gb=4), "a cache of 4 GB was asked for, and OVMS sizes none on an NPU"),
        ({}, Ask("m", gamma=0), "gamma must be at least 1"),
    ],
)
def test_what_ovms_cannot_do_is_refused(tiny_pair: Path, draft: dict[str, Any], ask: Ask, words: str) -> None:
    with pytest.raises(EdgespecError, match=words.replace("(", r"\(")):
        deploy(pair_with(tiny_pair, draft), ask)


def test_pairs_that_make_no_repository_are_refused(tiny_pair: Path, tmp_path: Path) -> None:
    gguf = pair_with(tiny_pair)
    target: ModelRecord = gguf.manifest.target.model_copy(update={"kind": "gguf"})
    with pytest.raises(EdgespecError, match="is a GGUF file"):
        deploy(Pair(gguf.root, gguf.manifest.model_copy(update={"target": target})), Ask("m"))
    moe = gguf.manifest.target.model_copy(update={"architecture": "Qwen3MoeForCausalLM"})
    with pytest.raises(EdgespecError, match="no EAGLE-3 for mixtures of experts"):
        deploy(pair_with(tiny_pair, {"kind": "eagle3"}, target=moe), Ask("m"))
    alone = Pair(gguf.root, gguf.manifest.model_copy(update={"draft": None}))
    with pytest.raises(EdgespecError, match="has no draft; leave it out"):
        deploy(alone, Ask("m", draft_device="GPU"))
    (tmp_path / "taken").mkdir()
    with pytest.raises(EdgespecError, match="exists already"):
        package_for_ovms(tiny_pair, tmp_path / "taken", name="m")
    assert list((tmp_path / "taken").iterdir()) == []


def test_the_draft_goes_where_the_profile_has_it(tiny_pair: Path, tmp_path: Path) -> None:
    root = tmp_path / "pair"
    shutil.copytree(tiny_pair, root)
    tuned = profile(draft_device="GPU", draft_devices=["GPU"])
    write_manifest(root, Pair.open(root).manifest.model_copy(update={"profiles": [tuned]}))
    assert deploy(Pair.open(root), Ask("m")).options["draft_device"] == "GPU"
    assert deploy(Pair.open(root), Ask("m", draft_device="CPU")).options["draft_device"] == "CPU"
    package_for_ovms(root, tmp_path / "repo", name="m", storage_uri="s3://models/m")
    runtime, service = (
        yaml.safe_load((tmp_path / "repo" / "kserve" / f"{name}.yaml").read_text())
        for name in ("serving-runtime", "inference-service")
    )
    assert runtime["spec"]["containers"][0]["image"].endswith("-gpu")
    assert service["spec"]["predictor"]["model"]["resources"]["limits"]["gpu.intel.com/i915"] == "1"


def test_kserve_finds_its_runtime_its_repository_and_enough_memory(tiny_pair: Path, tmp_path: Path) -> None:
    made = package_for_ovms(tiny_pair, tmp_path / "repo", name="My.Model_8B", storage_uri="s3://models/x", cache_gb=6)
    runtime, service = (
        yaml.safe_load((tmp_path / "repo" / "kserve" / f"{name}.yaml").read_text())
        for name in ("serving-runtime", "inference-service")
    )
    model = service["spec"]["predictor"]["model"]
    assert service["metadata"]["name"] == "my-model-8b" and model["storageUri"] == "s3://models/x"
    assert model["runtime"] == runtime["metadata"]["name"] == "edgespec-ovms-my-model-8b", "another pair has another"
    (container,) = runtime["spec"]["containers"]
    assert "--config_path=/mnt/models/config.json" in container["args"]
    assert container["image"] == f"openvino/model_server:{made['release']}"
    assert int(model["resources"]["limits"]["memory"].removesuffix("G")) * 10**9 > made["memory_bytes"] > 7 * 10**9
    assert model["modelFormat"]["name"] in [one["name"] for one in runtime["spec"]["supportedModelFormats"]]
    with pytest.raises(EdgespecError, match="makes no name for Kubernetes"):
        resource_name("8b")
