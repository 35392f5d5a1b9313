from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgespec.errors import EdgespecError
from edgespec.pair import MANIFEST, REQUIRED_FILES, Pair, read_manifest, record_files, write_manifest


@pytest.fixture
def copy(tiny_pair: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_pair, tmp_path / "pair"))


def _rewrite(root: Path, **changes: object) -> None:
    path = root / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_a_whole_pair_opens(copy: Path) -> None:
    pair = Pair.open(copy)
    assert pair.draft is not None and (pair.target / "openvino_model.bin").is_file()
    assert pair.manifest.target.parameters > pair.manifest.draft.parameters > 0  # type: ignore[union-attr]
    assert pair.manifest.made[0].versions["openvino"]


@pytest.mark.parametrize("role", ["target", "draft"])
@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_a_missing_file_is_named(copy: Path, role: str, name: str) -> None:
    (copy / role / name).unlink()
    with pytest.raises(EdgespecError, match=f"{name}' is missing; the pair is incomplete"):
        Pair.open(copy)


def test_a_truncated_model_is_refused(copy: Path) -> None:
    path = copy / "target" / "openvino_model.bin"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(EdgespecError, match=r"bytes where the manifest says .*truncated or was altered"):
        Pair.open(copy)


def test_an_altered_byte_is_refused(copy: Path) -> None:
    path = copy / "draft" / "openvino_model.bin"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(EdgespecError, match="does not match its sha256"):
        Pair.open(copy)
    assert Pair.open(copy, verify=False)


def test_no_directory_and_no_manifest(copy: Path) -> None:
    with pytest.raises(EdgespecError, match="there is no directory"):
        Pair.open(copy / "nowhere")
    (copy / MANIFEST).unlink()
    with pytest.raises(EdgespecError, match=r"is not a pair directory: it has no edgespec\.json"):
        Pair.open(copy)


def test_a_manifest_of_another_schema_or_shape(copy: Path) -> None:
    _rewrite(copy, schema_version=99)
    with pytest.raises(EdgespecError, match="schema 99 and this edgespec reads 1"):
        Pair.open(copy)
    _rewrite(copy, schema_version=1, surprise=True)
    with pytest.raises(EdgespecError, match=r"cannot be read: surprise"):
        Pair.open(copy)
    (copy / MANIFEST).write_text("{", encoding="utf-8")
    with pytest.raises(EdgespecError, match="cannot be read"):
        Pair.open(copy)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../evil", "/etc/evil", "//server/share/evil", "a/../../evil", "a/./b", "a//b", "a/"),
        *("C:evil", "C:/evil", "C:\\evil", "..\\evil", "\\\\server\\share", "\\\\?\\C:\\evil", "a/b:stream", "~:"),
        *(
            ".. /evil",
            "... ",
            "a./b",
            "a /b",
            "config.json.",
            "nul",
            "NUL.txt",
            "a/Com1",
            "aux .json",
            "a\0b",
            "a\nb",
            "*",
        ),
    ],
)
def test_a_manifest_names_no_file_outside_its_model(copy: Path, name: str) -> None:
    manifest = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
    manifest["target"]["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    (copy / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(EdgespecError, match=r"target\.files: .* is no file in the model's folder"):
        Pair.open(copy)


@pytest.mark.parametrize(
    "name", ["merges.txt", ".hidden", "a/b/c.bin", "..a", "a..b", "~a", "console.json", "ü 日本.txt"]
)
def test_a_manifest_may_name_any_other(copy: Path, name: str) -> None:
    (copy / "target" / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / "target" / name).write_text("more", encoding="utf-8")
    record = {"target": read_manifest(copy).target.model_copy(update={"files": record_files(copy / "target")})}
    write_manifest(copy, read_manifest(copy).model_copy(update=record))
    assert name in Pair.open(copy).manifest.target.files


def test_a_manifest_cannot_leave_files_out(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
    del manifest["target"]["files"]["openvino_tokenizer.xml"]
    _rewrite(copy, **manifest)
    with pytest.raises(EdgespecError, match=r"the target of .* lacks openvino_tokenizer\.xml"):
        Pair.open(copy)


def test_a_deleted_pair_is_gone_or_no_pair_any_more(
    make_pair: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    Pair.open(root := make_pair("first")).delete()
    assert not root.exists()
    pair = Pair.open(make_pair("second"))
    monkeypatch.setattr("edgespec.pair.remove_folder", lambda _: False)  # a file in it is held open
    with pytest.raises(EdgespecError, match=r"could not be removed whole: another program .*; it is no pair any more"):
        pair.delete()
    with pytest.raises(EdgespecError, match="is not a pair directory"):
        Pair.open(pair.root)
