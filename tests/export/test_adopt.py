"""`edgespec pair`: ready models become a pair as they are, byte for byte; what is wrong with one is a sentence."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import huggingface_hub
import openvino as ov
import pytest
from huggingface_hub import HfApi
from tiny_gguf import write_gguf

from edgespec.engine.genai import GenaiEngine
from edgespec.engine.native import NativeEngine
from edgespec.errors import EdgespecError
from edgespec.export import adopt_pair
from edgespec.gguf import read_gguf
from edgespec.pair import Pair
from edgespec.progress import Silent, SilentTask

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def ready(tmp_path: Path, tiny_pair: Path) -> Path:
    """An OpenVINO model of its own, to damage."""
    return Path(shutil.copytree(tiny_pair / "target", tmp_path / "in" / "model"))


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def cut(path: Path, bytes_kept: int) -> None:
    path.write_bytes(path.read_bytes()[:bytes_kept])


def test_a_pair_of_ready_models_is_what_they_are(tmp_path: Path, tiny_pair: Path) -> None:
    adopted = adopt_pair(tiny_pair / "target", tiny_pair / "draft", tmp_path / "pair")
    original = Pair.open(tiny_pair).manifest
    manifest = Pair.open(adopted.root).manifest
    assert manifest.draft is not None and original.draft is not None
    assert manifest.target.files == original.target.files
    assert manifest.draft.files == original.draft.files
    assert manifest.tokenizer == original.tokenizer
    assert (manifest.target.precision, manifest.target.parameters) == ("fp16", original.target.parameters)
    assert manifest.made[0].command.startswith("edgespec pair ")
    engine = GenaiEngine(adopted, device="CPU", mode="draft")
    assert len(engine.generate(engine.encode("def add("), 8).token_ids) == 8


def test_the_command_answers_with_one_json_line(tmp_path: Path, tiny_pair: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "edgespec",
        "pair",
        str(tiny_pair / "target"),
        "-o",
        str(tmp_path / "pair"),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert (document["pair"], document["draft"]) == (str(tmp_path / "pair"), None)
    assert document["target"]["kind"] == "model"


def test_what_is_not_the_models_stays_behind_and_what_is_missing_is_completed(tmp_path: Path, ready: Path) -> None:
    (ready / "README.md").write_text("mine", encoding="utf-8")
    (ready / "model.safetensors").write_bytes(b"weights")
    (ready / "generation_config.json").unlink()
    pair = adopt_pair(ready, None, tmp_path / "pair")
    assert not {"README.md", "model.safetensors"} & set(pair.manifest.target.files)
    completed = json.loads((pair.target / "generation_config.json").read_text(encoding="utf-8"))
    assert completed["eos_token_id"] == 0


def test_another_padding_of_the_embedding_passes_and_is_recorded(tmp_path: Path, tiny_pair: Path, ready: Path) -> None:
    edit_json(ready / "config.json", vocab_size=384)
    manifest = adopt_pair(tiny_pair / "target", ready, tmp_path / "pair").manifest
    assert manifest.draft is not None
    assert (manifest.target.vocab_size, manifest.draft.vocab_size) == (320, 384)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "openvino_model.xml").unlink(), "holds no OpenVINO model .*; give the directory that holds"),
        (lambda f: (f / "openvino_model.xml").rename(f / "edgespec.json"), "it is a pair; to take a model out of it"),
        (lambda f: (f / "openvino_model.xml").rename(f / "model.safetensors"), "convert it with: edgespec export"),
        (lambda f: (f / "openvino_model.bin").unlink(), "lacks openvino_model.bin; openvino_genai needs"),
        (lambda f: (f / "openvino_detokenizer.xml").unlink(), "lacks openvino_detokenizer.xml"),
        (lambda f: (f / "tokenizer.json").unlink(), "lacks tokenizer.json"),
        (lambda f: (f / "config.json").unlink(), "has no config.json, from which openvino_genai"),
        (lambda f: cut(f / "config.json", 30), "is not valid JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "does not hold a JSON object"),
        (lambda f: cut(f / "openvino_model.bin", 1000), "has 1,000 bytes and the constant .*: it is truncated"),
        (lambda f: cut(f / "openvino_model.xml", 9000), "is not a whole OpenVINO model"),
        (lambda f: _rename_operation(f / "openvino_model.xml"), "OpenVINO here cannot read '.*'"),
        (lambda f: _rename_operation(f / "openvino_tokenizer.xml"), "openvino_genai here cannot run the tokenizer of"),
        (lambda f: _stateless(f / "openvino_model.xml"), "keeps no KV cache inside"),
        (lambda f: _takes_embeddings(f / "openvino_model.xml"), "and no input_ids; give a text model"),
    ],
)
def test_a_model_that_is_not_ready_is_refused(
    tmp_path: Path, ready: Path, damage: Callable[[Path], object], says: str
) -> None:
    damage(ready)
    with pytest.raises(EdgespecError, match=says) as refusal:
        adopt_pair(ready, None, tmp_path / "out")
    assert "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def _rename_operation(xml: Path) -> None:
    """As an operation of a newer release looks to this one."""
    text = xml.read_text(encoding="utf-8")
    kinds = re.findall(r'<layer [^>]*\btype="(\w+)"', text)
    last = [kind for kind in kinds if kind not in ("Const", "Result", "Assign")][-1]
    xml.write_text(text.replace(f'type="{last}"', 'type="OperationOfTomorrow"'), encoding="utf-8")


def _takes_embeddings(xml: Path) -> None:
    xml.write_text(xml.read_text(encoding="utf-8").replace("input_ids", "inputs_embeds"), encoding="utf-8")


def _stateless(xml: Path) -> None:
    x = ov.opset13.parameter([1, 4], ov.Type.f32, "input_ids")
    model = ov.Model([ov.opset13.matmul(x, ov.opset13.constant([[1.0] * 4] * 4, ov.Type.f32), False, False)], [x])
    xml.with_suffix(".bin").unlink()
    ov.save_model(model, xml)


@pytest.mark.parametrize(
    ("target", "options", "says"),
    [
        ("./no/such/place", {}, "there is no directory or file './no/such/place'"),
        (__file__, {}, "is a file and no .gguf"),
        ("MODEL", {"revision": "main"}, "is on this machine, and a revision names a commit of a hub id"),
        ("MODEL", {"draft_revision": "main"}, "a draft's revision was given and no draft"),
    ],
)
def test_options_are_obeyed_or_refused(
    tmp_path: Path, tiny_pair: Path, target: str, options: dict[str, str], says: str
) -> None:
    with pytest.raises(EdgespecError, match=says):
        adopt_pair(target.replace("MODEL", str(tiny_pair / "target")), None, tmp_path / "out", **options)  # type: ignore[arg-type]


def test_another_vocabulary_is_refused(tmp_path: Path, tiny_pair: Path, ready: Path) -> None:
    edit_json(ready / "tokenizer.json", normalizer={"type": "NFC"})
    with pytest.raises(EdgespecError, match=r"do not share a vocabulary, .* the normaliser: none in the target, .*NFC"):
        adopt_pair(tiny_pair / "target", ready, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Listener(Silent):
    """A progress that counts what each task advanced."""

    def __init__(self) -> None:
        self.advanced: dict[str, float] = {}

    def task(self, description: str, total: float | None = None) -> Any:
        listener = self

        class Counting(SilentTask):
            def advance(self, amount: float = 1) -> None:
                listener.advanced[description] = listener.advanced.get(description, 0) + amount

            def __enter__(self) -> Counting:
                return self

            def __exit__(self, *_: object) -> None:
                pass

        return Counting()


def test_a_hub_model_is_fetched_at_one_commit_with_its_bytes_told_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_pair: Path
) -> None:
    source, snapshot = tiny_pair / "target", tmp_path / "snapshot"
    snapshot.mkdir()
    files = [SimpleNamespace(rfilename=path.name, size=path.stat().st_size) for path in source.iterdir()]
    files.append(SimpleNamespace(rfilename="README.md", size=5))
    asked: list[tuple[str, list[str]]] = []
    lost = [httpx.ReadError("connection lost")]

    def download(_: str, *, revision: str, allow_patterns: list[str], tqdm_class: Any = None) -> str:
        asked.append((revision, sorted(allow_patterns)))
        if tqdm_class is not None:
            with tqdm_class(total=0, unit="B", name="x") as bar, tqdm_class(total=3) as files_bar:
                for name in allow_patterns:
                    if name == "openvino_model.bin" and lost:
                        raise lost.pop()
                    bar.update((source / name).stat().st_size)
                    files_bar.update()
                    shutil.copyfile(source / name, snapshot / name)
        else:
            for name in allow_patterns:
                shutil.copyfile(source / name, snapshot / name)
        return str(snapshot)

    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: SimpleNamespace(sha=COMMIT, siblings=files))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(EdgespecError, match=r"stopped \(ReadError\); run the command again: files that came whole"):
        adopt_pair("OpenVINO/model", None, tmp_path / "pair", revision="main")
    assert not (tmp_path / "pair").exists()
    there = {path.name for path in snapshot.iterdir()}
    listener = Listener()
    pair = adopt_pair("OpenVINO/model", None, tmp_path / "pair", revision="main", progress=listener)
    assert {revision for revision, _ in asked} == {COMMIT}
    assert set(asked[-1][1]) & there == set()  # only what had not come yet
    assert "README.md" not in {name for _, names in asked for name in names}
    assert pair.manifest.target.source.model_dump() == {"id": "OpenVINO/model", "revision": COMMIT}
    fetched = next(amount for task, amount in listener.advanced.items() if task.startswith("fetching"))
    assert fetched == sum((source / name).stat().st_size for name in asked[-1][1])


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory, tiny_target_checkpoint: Path) -> Path:
    return write_gguf(tiny_target_checkpoint, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_a_gguf_target_runs_as_it_is(tmp_path: Path, gguf: Path, tiny_pair: Path) -> None:
    pair = adopt_pair(gguf, tiny_pair / "draft", tmp_path / "pair")
    record = Pair.open(pair.root).manifest.target
    assert (record.kind, record.architecture, record.precision, record.vocab_size) == (
        "gguf",
        "llama",
        "gguf_fp16",
        320,
    )
    assert list(record.files) == ["model.gguf"]
    assert "the pre-tokenizer is only named" in pair.manifest.made[0].checks["vocabulary"]
    engine = GenaiEngine(pair, device="CPU", mode="draft")
    ids = engine.encode("def add(a, b):")
    generation = engine.generate(ids, 8)
    plain = GenaiEngine(Pair.open(tiny_pair), device="CPU")
    assert ids == plain.encode("def add(a, b):")
    assert generation.token_ids == plain.generate(ids, 8).token_ids  # the same weights as an IR
    with pytest.raises(
        EdgespecError, match="is a GGUF file, which openvino-genai reads and the native engine does not"
    ):
        NativeEngine(pair, device="CPU", mode="copy")


def test_a_gguf_targets_vocabulary_is_compared(
    tmp_path: Path, gguf: Path, tiny_pair: Path, tiny_target_checkpoint: Path
) -> None:
    tokens = read_gguf(gguf).tokens
    swapped = [*tokens[:40], tokens[41], tokens[40], *tokens[42:]]
    other = write_gguf(tiny_target_checkpoint, tmp_path / "other.gguf", tokenizer__ggml__tokens=swapped)
    with pytest.raises(EdgespecError, match=r"do not share a vocabulary, .* the ids of 2 tokens, target and draft"):
        adopt_pair(other, tiny_pair / "draft", tmp_path / "out")
    eos = write_gguf(tiny_target_checkpoint, tmp_path / "eos.gguf", tokenizer__ggml__eos_token_id=5)
    with pytest.raises(EdgespecError, match="eos: 5 in the target, 0 in the draft"):
        adopt_pair(eos, tiny_pair / "draft", tmp_path / "out")


def test_a_bos_that_a_gguf_never_uses_is_not_compared(
    tmp_path: Path, tiny_pair: Path, tiny_target_checkpoint: Path
) -> None:
    """As published Qwen files have it: an id, add_bos_token false, and none in tokenizer_config.json."""
    unused = write_gguf(tiny_target_checkpoint, tmp_path / "unused.gguf", tokenizer__ggml__bos_token_id=5)
    assert adopt_pair(unused, tiny_pair / "draft", tmp_path / "pair").manifest.draft is not None
    used = write_gguf(
        tiny_target_checkpoint,
        tmp_path / "used.gguf",
        tokenizer__ggml__bos_token_id=5,
        tokenizer__ggml__add_bos_token=True,
    )
    with pytest.raises(EdgespecError, match="bos: 5 in the target, 0 in the draft"):
        adopt_pair(used, tiny_pair / "draft", tmp_path / "out")


def test_one_part_of_a_split_gguf_is_refused(tmp_path: Path, tiny_target_checkpoint: Path) -> None:
    part = write_gguf(tiny_target_checkpoint, tmp_path / "tiny-00001-of-00003.gguf", split__count=3)
    with pytest.raises(EdgespecError, match="is one of 3 parts of a model, and one file is read; join them with"):
        adopt_pair(part, None, tmp_path / "out")


def test_a_gguf_draft_is_refused(tmp_path: Path, gguf: Path, tiny_pair: Path) -> None:
    with pytest.raises(EdgespecError, match="is a GGUF file, which edgespec takes as a target only"):
        adopt_pair(tiny_pair / "target", gguf, tmp_path / "out")


def _after(raw: bytes, mark: bytes, other: bytes) -> bytes:
    """Overwrite what follows `mark`: a type that does not exist, a string or an array that would never end."""
    at = raw.index(mark) + len(mark)
    return raw[:at] + other + raw[at + len(other) :]


def _other_type(raw: bytes, name: bytes) -> bytes:
    """The type of a vector: behind its name come the number of dimensions (u32) and its size (u64)."""
    at = raw.index(name) + len(name) + 4 + 8
    return raw[:at] + (99).to_bytes(4, "little") + raw[at + 4 :]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda raw: b"GGML" + raw[4:], "is not a GGUF file: it does not begin with GGUF"),
        (lambda raw: raw[:4] + b"\1\0\0\0" + raw[8:], "is GGUF version 1, and 2 and 3 are read"),
        (lambda raw: _other_type(raw, b"output_norm.weight"), "the weight 'output_norm.weight' .* has ggml type 99"),
        (lambda raw: raw[:2000], "the head of '.*' is cut short or damaged"),
        (lambda raw: _after(raw, b"general.architecture", b"\x63"), "the head of '.*' is cut short or damaged"),
        (lambda raw: _after(raw, b"general.architecture\x08\0\0\0", b"\xff" * 8), "the head of '.*' is cut short or"),
        (
            lambda raw: _after(raw, b"tokens\x09\0\0\0\x08\0\0\0", b"\xff" * 8),
            "the head of '.*' is cut short or damaged",
        ),
        (lambda raw: raw[:-500], "bytes where its head says .*: it is truncated"),
        (
            lambda raw: raw.replace(
                b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama",
                b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0mamba",
            ),
            "is a mamba model, and of GGUF files openvino-genai reads",
        ),
    ],
)
def test_a_gguf_file_that_cannot_be_read_is_refused(
    tmp_path: Path, gguf: Path, damage: Callable[[bytes], bytes], says: str
) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(damage(gguf.read_bytes()))
    with pytest.raises(EdgespecError, match=says):
        adopt_pair(path, None, tmp_path / "out")


def test_a_gguf_file_without_a_tokenizer_is_refused(tmp_path: Path, tiny_target_checkpoint: Path) -> None:
    bare = write_gguf(tiny_target_checkpoint, tmp_path / "bare.gguf", tokenizer__ggml__tokens=None)
    with pytest.raises(EdgespecError, match=r"holds no tokenizer \(tokenizer.ggml.tokens\)"):
        adopt_pair(bare, None, tmp_path / "out")
