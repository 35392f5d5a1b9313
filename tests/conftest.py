"""Tiny real models, made once a session: two random Llamas that share a tokenizer, and the pair exported from them.

Tests read these directories and never write into them; copy first (`shutil.copytree`) to damage one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from tiny_checkpoint import make_checkpoint

from edgespec.bundled import bundled_checkpoints
from edgespec.pair import REQUIRED_FILES, Manifest, ModelRecord, Pair, Source, record_files, write_manifest
from edgespec.signals import keeping_signal_stack

if TYPE_CHECKING:
    from edgespec.plan import Walks


settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")  # how fast the machine is, and who else runs on it, is no property of the code

TWIN_VOCAB = 16_000
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, bool, bool]:
    """Tests load models with OpenVINO alone, too, and raise SIGINT: see edgespec/signals.py."""
    with keeping_signal_stack():
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from, or left in, the cache or the profiles of whoever runs the tests."""
    names = ("EDGESPEC_CACHE", "EDGESPEC_PROFILES")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: str(tmp_path_factory.mktemp("own")) for name in names})
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def tiny_target_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory: Llama, hidden 64, 2 layers, float32 safetensors, byte-level BPE of 300 tokens."""
    return make_checkpoint(tmp_path_factory.mktemp("hf") / "target", layers=2, seed=0)


@pytest.fixture(scope="session")
def tiny_draft_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with one layer and other weights; the same tokenizer."""
    return make_checkpoint(tmp_path_factory.mktemp("hf") / "draft", layers=1, seed=1)


@pytest.fixture(scope="session")
def tiny_pair(
    tmp_path_factory: pytest.TempPathFactory, tiny_target_checkpoint: Path, tiny_draft_checkpoint: Path
) -> Path:
    """The two as an fp16 pair directory."""
    from edgespec.export import export_pair

    out = tmp_path_factory.mktemp("pairs") / "tiny"
    return export_pair(tiny_target_checkpoint, tiny_draft_checkpoint, out).root


@pytest.fixture(scope="session")
def chat_pair(
    tmp_path_factory: pytest.TempPathFactory, tiny_target_checkpoint: Path, tiny_draft_checkpoint: Path
) -> Path:
    """The tiny pair from checkpoints whose tokenizer has a chat template."""
    from edgespec.export import export_pair

    folder = tmp_path_factory.mktemp("chatting")
    for role, checkpoint in (("target", tiny_target_checkpoint), ("draft", tiny_draft_checkpoint)):
        shutil.copytree(checkpoint, folder / role)
        path = folder / role / "tokenizer_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(config | {"chat_template": TEMPLATE}), encoding="utf-8")
    return export_pair(folder / "target", folder / "draft", folder / "pair").root


@pytest.fixture(scope="session")
def beginning_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, tiny_target_checkpoint: Path, tiny_draft_checkpoint: Path
) -> Path:
    """The tiny target, and beside it the draft, with a tokenizer that begins a text with a BOS of its own (id 1) and a
    chat template that brings one, as Llama's and Gemma's do."""
    folder = tmp_path_factory.mktemp("beginning")
    for role, checkpoint in (("target", tiny_target_checkpoint), ("draft", tiny_draft_checkpoint)):
        path = Path(shutil.copytree(checkpoint, folder / role)) / "tokenizer.json"
        tokenizer = json.loads(path.read_text(encoding="utf-8"))
        token = next(text for text, number in tokenizer["model"]["vocab"].items() if number == 1)
        tokenizer["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {token: {"id": token, "ids": [1], "tokens": [token]}},
        }
        path.write_text(json.dumps(tokenizer), encoding="utf-8")
        path = path.with_name("tokenizer_config.json")
        config = json.loads(path.read_text(encoding="utf-8"))
        config |= {"chat_template": "{{ bos_token }}" + TEMPLATE, "bos_token": token}
        path.write_text(json.dumps(config), encoding="utf-8")
    return folder / "target"


@pytest.fixture(scope="session")
def beginning_pair(beginning_checkpoint: Path) -> Pair:
    """The pair of the two."""
    from edgespec.export import export_pair

    folder = beginning_checkpoint.parent
    return export_pair(folder / "target", folder / "draft", folder / "pair")


@pytest.fixture
def make_pair(tmp_path: Path) -> Callable[..., Path]:
    """A pair directory that opens: every file present and hashed, with no model inside."""

    def build(name: str = "tiny-pair", draft: bool = True) -> Path:
        root = tmp_path / name
        records = {}
        for role, parameters in (("target", 22_000_000), ("draft", 2_200_000)):
            if role == "draft" and not draft:
                continue
            folder = root / role
            folder.mkdir(parents=True)
            for file in REQUIRED_FILES:
                (folder / file).write_text(f"{role} {file}", encoding="utf-8")
            records[role] = ModelRecord(
                source=Source(id=f"example/{role}"),
                architecture="LlamaForCausalLM",
                parameters=parameters,
                vocab_size=1000,
                precision="int8_asym",
                files=record_files(folder),
            )
        fingerprint = hashlib.sha256(b"tokenizer").hexdigest()
        write_manifest(
            root,
            Manifest(
                schema_version=1, tokenizer=fingerprint, target=records["target"], draft=records.get("draft"), made=[]
            ),
        )
        return root

    return build


@pytest.fixture(scope="session")
def self_draft_pair(tiny_pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A pair whose draft is its target: everything proposed greedily is accepted."""
    root = tmp_path_factory.mktemp("self-draft") / "pair"
    shutil.copytree(tiny_pair, root)
    shutil.rmtree(root / "draft")
    shutil.copytree(root / "target", root / "draft")
    manifest = Pair.open(tiny_pair).manifest
    write_manifest(root, manifest.model_copy(update={"draft": manifest.target}))
    return Pair.open(root)


@pytest.fixture(scope="session")
def hostile_draft_pair(self_draft_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A pair whose draft is its target with the logits turned round: it proposes what the target likes least."""
    import openvino

    root = tmp_path_factory.mktemp("hostile") / "pair"
    shutil.copytree(self_draft_pair.root, root)
    xml = root / "draft" / "openvino_model.xml"
    model = openvino.Core().read_model(self_draft_pair.target / "openvino_model.xml")
    head = next(node for node in reversed(model.get_ordered_ops()) if node.get_type_name() == "MatMul")
    turned = openvino.opset13.multiply(head.output(0), openvino.opset13.constant(-1.0, openvino.Type.f32))
    names = head.output(0).get_names()
    head.output(0).get_tensor().set_names(set())
    turned.output(0).get_tensor().set_names(names)
    for consumer in head.output(0).get_target_inputs():
        if consumer.get_node().get_friendly_name() != turned.get_friendly_name():
            consumer.replace_source_output(turned.output(0))
    openvino.save_model(model, xml, compress_to_fp16=False)
    manifest = self_draft_pair.manifest
    assert manifest.draft is not None
    draft = manifest.draft.model_copy(update={"files": record_files(root / "draft")})
    write_manifest(root, manifest.model_copy(update={"draft": draft}))
    return Pair.open(root)


@pytest.fixture(scope="session")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """Targets of known behaviour: `twins(precision)` opens a pair of twins whose target is in that precision, with an
    int8 draft, built once. The draft serves every alpha of edgespec.plan.ALPHAS: where an answer begins decides which
    holds, and `twin_walks` knows where."""
    from edgespec.export import export_pair
    from edgespec.plan import Makers, Store, TwinSpec, llama_shape
    from edgespec.quantize import quantize_pair

    store = Store(tmp_path_factory.mktemp("twins") / "store")
    makers = Makers(export=export_pair, quantize=quantize_pair)
    target, draft = llama_shape(2, 128, vocab=TWIN_VOCAB, tied=False), llama_shape(1, 128, vocab=TWIN_VOCAB)

    def made(precision: str) -> Pair:
        specs = (
            TwinSpec("target", "2x128", target, TWIN_VOCAB, precision),
            TwinSpec("draft", "1x128", draft, TWIN_VOCAB, "int8"),
        )
        return store.pair(*(store.get(spec, makers) for spec in specs))

    return made


@pytest.fixture(scope="session")
def twin_walks() -> Walks:
    """The answers of `twins`."""
    from edgespec.plan import Walks

    return Walks(TWIN_VOCAB)


@pytest.fixture(scope="session")
def bundled_fp16_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edgespec.export import export_pair

    return export_pair(*bundled_checkpoints(), tmp_path_factory.mktemp("bundled") / "pair").root
