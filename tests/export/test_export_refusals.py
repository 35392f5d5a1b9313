"""Every refusal of export is a sentence, comes before the heavy part where it can, and leaves nothing behind."""

from __future__ import annotations

import errno
import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgespec import resources
from edgespec.errors import EdgespecError
from edgespec.export import assemble, convert, export_pair
from edgespec.export.code import require_trusted
from edgespec.pair import FileRecord

Usage = namedtuple("Usage", "total used free")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_target_checkpoint: Path) -> Path:
    """A copy to damage, in its own folder so that `tmp_path` holds nothing else but outputs."""
    return Path(shutil.copytree(tiny_target_checkpoint, tmp_path / "in" / "model"))


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if anything heavy starts."""

    def fail(*_: Any) -> None:
        pytest.fail("the conversion started")

    monkeypatch.setattr(convert, "convert", fail)


def edit_config(folder: Path, **changes: Any) -> None:
    edit_json(folder / "config.json", **changes)


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def write_index(folder: Path, content: str) -> None:
    (folder / "model.safetensors.index.json").write_text(content, encoding="utf-8")


def nothing_left(tmp_path: Path) -> bool:
    return all(path.name == "in" for path in tmp_path.iterdir())


def only_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut(path: Path, bytes_kept: int) -> None:
    path.write_bytes(path.read_bytes()[:bytes_kept])


def shard_index(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json; give the directory of a Hugging Face checkpoint"),
        (lambda f: (f / "config.json").rename(f / "edgespec.json"), "it is a pair already, compress it with"),
        (lambda f: (f / "config.json").rename(f / "adapter_config.json"), "it is an adapter, merge it into its model"),
        (lambda f: cut(f / "config.json", 40), "is not valid JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "does not hold a JSON object"),
        (
            lambda f: edit_config(f, architectures=["BertForMaskedLM"]),
            "is a BertForMaskedLM, and edgespec exports causal",
        ),
        (lambda f: edit_config(f, architectures=[]), "names no architecture"),
        (lambda f: edit_config(f, architectures=["LlamaForCausalLMEagle3"]), "is an EAGLE-3 head"),
        (lambda f: edit_config(f, quantization_config={"quant_method": "awq"}), r"are quantized already \(awq\)"),
        (lambda f: [p.unlink() for p in f.glob("tokenizer*")], "has no tokenizer"),
        (lambda f: (f / "model.safetensors").unlink(), "has no weights"),
        (only_pickles, "has no safetensors, only pickled weights.*--allow-pickle"),
        (lambda f: cut(f / "model.safetensors", 50_000), "has 50,000 bytes where its header says .*: it is truncated"),
        (lambda f: cut(f / "model.safetensors", 100), "is not a whole safetensors file"),
        (shard_index, "lacks 1 of the 2 weight files in its index, such as 'model-00002-of-00002.safetensors'"),
        (lambda f: (f / "model.safetensors").rename(f / "openvino_model.xml"), "is an OpenVINO model already"),
        (lambda f: write_index(f, "{}"), r"the model.safetensors.index.json of '.*' is damaged \(KeyError"),
        (lambda f: write_index(f, '{"weight_map": {}}'), "lacks 0 of the 0 weight files in its index, such as 'model"),
        (
            lambda f: (f / "tokenizer_config.json").write_text("{"),
            "the tokenizer_config.json of '.*' is not valid JSON",
        ),
        (lambda f: edit_config(f, architectures=["LlamaForCausalLMEagle"]), "is an EAGLE head .* of a generation that"),
    ],
)
def test_a_checkpoint_that_cannot_be_exported(
    tmp_path: Path, checkpoint: Path, damage: Callable[[Path], object], says: str
) -> None:
    damage(checkpoint)
    with pytest.raises(EdgespecError, match=says) as refusal:
        export_pair(checkpoint, None, tmp_path / "out")
    assert "\n" not in str(refusal.value)
    assert nothing_left(tmp_path)


@pytest.mark.usefixtures("light")
def test_pickles_of_an_unknown_layout_are_refused_even_when_they_are_trusted(tmp_path: Path, checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "consolidated.00.pth")
    with pytest.raises(EdgespecError, match=r"has no model.safetensors and no pytorch_model.bin; convert its weights"):
        export_pair(checkpoint, None, tmp_path / "out", allow_pickle=True)
    assert nothing_left(tmp_path)


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"draft": "x", "early_exit": 1}, "a draft and an early exit were both given, and a pair has one draft"),
        ({"early_exit": 0}, "--early-exit got 0 and '.*' has 2 layers; give a number from 1 to 1"),
        ({"early_exit": 2}, "--early-exit got 2 and '.*' has 2 layers; give a number from 1 to 1"),
    ],
)
def test_a_draft_is_one(tmp_path: Path, checkpoint: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(EdgespecError, match=says):
        export_pair(checkpoint, options.pop("draft", None), tmp_path / "out", **options)
    assert nothing_left(tmp_path)


@pytest.mark.usefixtures("light")
def test_too_little_memory_is_refused_before_anything_is_written(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "available_memory_bytes", lambda: 500_000_000)
    says = r"exporting the target '.*' from fp32 to fp16 needs about 1\.1 GB of memory and 0\.5 of"
    with pytest.raises(EdgespecError, match=says):
        export_pair(checkpoint, None, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_an_early_exit_needs_the_disk_of_its_own_layers_only(checkpoint: Path) -> None:
    from edgespec.export.checkpoint import open_checkpoint

    whole = open_checkpoint(str(checkpoint))
    assert whole.numbers is not None
    layer = whole.numbers.by_layer[1]
    assert sum(whole.numbers.by_layer.values()) < whole.weight_count
    assert whole.early_exit(1).weight_count == whole.weight_count - layer
    assert whole.exported_bytes("fp16") - whole.early_exit(1).exported_bytes("fp16") == 2 * layer
    guess = replace(whole, numbers=None).early_exit(1).weight_count  # of a hub id, before its headers are here
    assert guess == pytest.approx(whole.early_exit(1).weight_count, rel=0.05)


@pytest.mark.usefixtures("light")
def test_a_disk_that_holds_both_is_counted_once_for_both(
    tmp_path: Path, checkpoint: Path, tiny_draft_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgespec.export.checkpoint import open_checkpoint

    target, draft = (open_checkpoint(str(path)).exported_bytes("fp16") for path in (checkpoint, tiny_draft_checkpoint))
    free = int(1.05 * (target + draft)) - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, free))
    with pytest.raises(EdgespecError, match=r"are needed; free some space"):
        export_pair(checkpoint, tiny_draft_checkpoint, tmp_path / "out")
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("file", "auto_map"),
    [
        ("tokenizer_config.json", {"AutoTokenizer": ["tokenization_novel.NovelTokenizer", None]}),
        ("tokenizer_config.json", ["tokenization_novel.NovelTokenizer", None]),
    ],
)
@pytest.mark.usefixtures("light")
def test_a_tokenizer_that_brings_code_is_not_run_unasked(
    tmp_path: Path, checkpoint: Path, file: str, auto_map: Any
) -> None:
    edit_json(checkpoint / file, auto_map=auto_map, tokenizer_class="NovelTokenizer")
    edit_config(checkpoint, model_type="jais")  # a type for which transformers has no tokenizer
    (checkpoint / "tokenization_novel.py").write_text("raise SystemExit('it ran')\n", encoding="utf-8")
    says = r"needs the code it brings along \(tokenization_novel.NovelTokenizer, named in tokenizer_config.json"
    with pytest.raises(EdgespecError, match=says):
        export_pair(checkpoint, None, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_code_that_transformers_can_do_without_is_not_asked_for(checkpoint: Path) -> None:
    """As published Phi-3 has it: auto_map beside a model type and a tokenizer that transformers knows."""
    edit_config(checkpoint, auto_map={"AutoModelForCausalLM": "modeling.Model"})
    edit_json(checkpoint / "tokenizer_config.json", auto_map={"AutoTokenizer": ["a.Slow", "a.Fast"]})
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    require_trusted("model", checkpoint, config, trust_remote_code=False)


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("file", ["tokenizer_config.json", "processor_config.json", "preprocessor_config.json"])
def test_code_from_another_repository_is_seen_in_every_configuration(
    tmp_path: Path, checkpoint: Path, file: str
) -> None:
    (checkpoint / file).touch()
    (checkpoint / file).write_text(json.dumps({"auto_map": {"Auto": ["other/code--x.Y", None]}}), encoding="utf-8")
    with pytest.raises(EdgespecError, match=rf"from another repository \('other/code', named in {file}\), which its"):
        export_pair(checkpoint, None, tmp_path / "out", trust_remote_code=True)


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"dtype": "int8"}, "'int8' is not a dtype to export in; choose auto, fp16, bf16, fp32"),
        ({"revision": "main"}, "is a directory, and a revision names a commit of a hub id"),
        ({"draft_revision": "main"}, "a draft's revision was given and no draft"),
    ],
)
def test_options_are_obeyed_or_refused(tmp_path: Path, checkpoint: Path, arguments: dict[str, str], says: str) -> None:
    with pytest.raises(EdgespecError, match=says):
        export_pair(checkpoint, None, tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert nothing_left(tmp_path)


@pytest.mark.usefixtures("light")
def test_an_early_exit_of_unknown_depth_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    edit_config(checkpoint, num_hidden_layers=None)
    with pytest.raises(EdgespecError, match="does not say how many layers it has; use no early exit"):
        export_pair(checkpoint, None, tmp_path / "out", early_exit=1)
    assert nothing_left(tmp_path)


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("./no/such/place", "there is no directory './no/such/place'"),
        ("..", "'..' has no config.json"),
        (__file__, "is a file; give the directory"),
    ],
)
def test_a_place_that_holds_no_checkpoint(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(EdgespecError, match=says):
        export_pair(name, None, tmp_path / "out")
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:12]])
def test_remote_code_needs_a_full_commit(tmp_path: Path, revision: str | None) -> None:
    with pytest.raises(EdgespecError, match=r"give the full commit hash \(40 hex digits\) as the revision"):
        export_pair("someone/model", None, tmp_path / "out", revision=revision, trust_remote_code=True)


@pytest.mark.usefixtures("light")
def test_remote_code_from_another_repository_is_not_pinned(tmp_path: Path, checkpoint: Path) -> None:
    edit_config(checkpoint, auto_map={"AutoModelForCausalLM": "other/code--modeling.Model"})
    with pytest.raises(EdgespecError, match=r"loads code from another repository \('other/code', named in"):
        export_pair(checkpoint, None, tmp_path / "out", trust_remote_code=True)


def test_code_that_a_checkpoint_brings_is_not_run_unasked(tmp_path: Path, checkpoint: Path) -> None:
    edit_config(checkpoint, model_type="novel", auto_map={"AutoConfig": "configuration.Novel"})
    (checkpoint / "configuration.py").write_text("raise SystemExit('it ran')\n", encoding="utf-8")
    with pytest.raises(
        EdgespecError, match=r"needs the code it brings along \(configuration.Novel, named in config.json"
    ):
        export_pair(checkpoint, None, tmp_path / "out")
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("model_type", "says"),
    [("novel", "does not know the model type 'novel'"), ("bert", "cannot export the model type 'bert' .* as a causal")],
)
def test_a_model_type_upstream_cannot_export(tmp_path: Path, checkpoint: Path, model_type: str, says: str) -> None:
    edit_config(checkpoint, model_type=model_type)
    with pytest.raises(EdgespecError, match=says):
        export_pair(checkpoint, None, tmp_path / "out")
    assert nothing_left(tmp_path)


@pytest.mark.usefixtures("light")
def test_another_vocabulary_is_refused_before_the_conversion(
    tmp_path: Path, checkpoint: Path, tiny_draft_checkpoint: Path
) -> None:
    path = checkpoint / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["normalizer"] = {"type": "NFC"}
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(EdgespecError, match=r"do not share a vocabulary, .* the normaliser: .*NFC.* none in the draft"):
        export_pair(checkpoint, tiny_draft_checkpoint, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_another_embedding_padding_is_no_other_vocabulary(
    tmp_path: Path, checkpoint: Path, tiny_draft_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_config(checkpoint, vocab_size=384)

    def start(*_: Any) -> None:
        raise EdgespecError("the conversion started")

    monkeypatch.setattr(convert, "convert", start)
    with pytest.raises(EdgespecError, match="the conversion started"):
        export_pair(checkpoint, tiny_draft_checkpoint, tmp_path / "out")


@pytest.mark.usefixtures("light")
def test_an_output_that_exists_is_left_alone(tmp_path: Path, checkpoint: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(EdgespecError, match="exists already; choose another output directory"):
        export_pair(checkpoint, None, out)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


@pytest.mark.usefixtures("light")
def test_a_disk_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, checkpoint: Path, tiny_draft_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 10_000, 10_000))
    with pytest.raises(EdgespecError, match=r"has 0.00 GB free and about 0.00 GB are needed; free some space"):
        export_pair(checkpoint, tiny_draft_checkpoint, tmp_path / "out")
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("place", ["convert", "write_manifest"])
def test_a_disk_that_fills_up_leaves_nothing(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, place: str, tiny_pair: Path
) -> None:
    def half_written(_: Any, out: Path, *__: Any) -> dict[str, FileRecord]:
        shutil.copytree(tiny_pair / "target", out)
        if place == "convert":
            (out / "openvino_model.bin").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(out))
        return {}

    def no_manifest(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(convert, "convert", half_written)
    monkeypatch.setattr(assemble, "write_manifest", no_manifest)
    with pytest.raises(OSError, match="No space left on device"):
        export_pair(checkpoint, None, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_a_full_disk_that_upstream_calls_an_iostream_error(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(*_: Any) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 0))
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(convert, "_export", fill_up)
    with pytest.raises(OSError, match="no space left") as failure:
        export_pair(checkpoint, None, tmp_path / "out")
    assert failure.value.errno == errno.ENOSPC
    assert nothing_left(tmp_path)


def test_a_tokenizer_that_cannot_be_converted_is_named_with_the_reason(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: Any, **__: Any) -> None:
        raise NotImplementedError("Normalizer Oddity is not supported\nat line 3")

    monkeypatch.setattr("openvino_tokenizers.convert_tokenizer", unsupported)
    with pytest.raises(
        EdgespecError, match="cannot be converted to OpenVINO: Normalizer Oddity is not supported; a model"
    ):
        export_pair(checkpoint, None, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_a_conversion_that_lost_files_silently_is_refused(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tiny_pair: Path
) -> None:
    def lossy(_: Any, out: Path, *__: Any) -> None:
        for path in (tiny_pair / "target").iterdir():
            if "tokenizer.xml" not in path.name:
                shutil.copyfile(path, out / path.name)

    monkeypatch.setattr(convert, "_export", lossy)
    with pytest.raises(EdgespecError, match=r"ended without openvino_tokenizer.xml, openvino_detokenizer.xml"):
        export_pair(checkpoint, None, tmp_path / "out")
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: cut(f / "openvino_model.bin", 1_000), "it is truncated"),
        (lambda f: (f / "openvino_model.xml").write_bytes(_stateless(f)), "came out without a KV cache inside"),
    ],
)
def test_a_conversion_that_went_wrong_is_refused(
    tmp_path: Path, tiny_pair: Path, damage: Callable[[Path], object], says: str
) -> None:
    folder = Path(shutil.copytree(tiny_pair / "target", tmp_path / "model"))
    damage(folder)
    with pytest.raises(EdgespecError, match=says):
        convert.check_converted("model", folder, "fp16")


def test_a_conversion_to_another_dtype_is_refused(tiny_pair: Path) -> None:
    with pytest.raises(EdgespecError, match="was to have fp32 weights and upstream wrote fp16"):
        convert.check_converted("model", tiny_pair / "target", "fp32")


def test_what_upstream_raises_becomes_a_sentence(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("The maximum required version is 5.0.\nTraceback ...")

    monkeypatch.setattr(convert, "_export", fail)
    with pytest.raises(EdgespecError, match=r"could not convert '.*': The maximum required version is 5.0.$"):
        export_pair(checkpoint, None, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_missing_packages_are_named_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "optimum.intel" else object())
    with pytest.raises(EdgespecError, match=r'optimum.intel; install them with: pip install "edgespec\[export\]"'):
        export_pair("any", None, tmp_path / "out")


def _stateless(folder: Path) -> bytes:
    return (folder / "openvino_model.xml").read_bytes().replace(b'type="ReadValue"', b'type="Parameter"')
