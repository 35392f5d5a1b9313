"""Documents of every kind of source: each once a pass, in an order of the seed's, and on from any position."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from edgespec.errors import EdgespecError
from edgespec.train import sources
from edgespec.train.sources import Source, SourceSpec, TableSource

TEXTS = [f"document {number} of those there are" for number in range(13)]


def _jsonl(folder: Path, field: str = "text") -> Path:
    for part in range(2):
        lines = [json.dumps({field: text, "id": part}) + "\n" for text in TEXTS[part::2]]
        (folder / f"part-{part}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def _parquet(folder: Path) -> Path:
    for part in range(3):
        pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS[part::3]}), folder / f"{part}.parquet")
    return folder


def _code(folder: Path) -> Path:
    for number, text in enumerate(TEXTS):
        path = folder / f"package{number % 3}" / f"module{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "image.py").write_bytes(b"\x89PNG\0\0")
    (folder / "latin.py").write_bytes("é".encode("latin-1"))
    (folder / ".git").mkdir()
    (folder / ".git" / "hook.py").write_text("never read", encoding="utf-8")
    (folder / "weights.bin").write_text("never read", encoding="utf-8")
    return folder


@pytest.fixture(params=["jsonl", "parquet", "code"])
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setattr(sources, "BLOCK", 3)
    made = {"jsonl": _jsonl, "parquet": _parquet, "code": _code}[request.param](tmp_path)
    return SourceSpec(str(made)).open()


def test_each_document_once_a_pass_in_the_seeds_order(source: Source) -> None:
    stream = source.documents(seed=1)
    first, second = ([text for text, _ in itertools.islice(stream, len(TEXTS))] for _ in range(2))
    assert sorted(first) == sorted(second) == sorted(TEXTS)
    assert first != second and first != TEXTS
    assert [text for text, _ in itertools.islice(source.documents(1), 5)] == first[:5]
    assert [text for text, _ in itertools.islice(source.documents(2), len(TEXTS))] != first


def test_documents_go_on_from_any_position(source: Source) -> None:
    whole = list(itertools.islice(source.documents(1), 30))
    assert [source.passes(position) for _, position in whole] == [number // len(TEXTS) for number in range(30)]
    for begin in range(0, 26, 4):
        position = json.loads(json.dumps(whole[begin][1]))
        assert list(itertools.islice(source.documents(1, position), 4)) == whole[begin + 1 : begin + 5]


def test_the_folder_may_lie_elsewhere(tmp_path: Path) -> None:
    orders = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        source = SourceSpec(str(_code(tmp_path / name))).open()
        orders.append([text for text, _ in itertools.islice(source.documents(0), 13)])
    assert orders[0] == orders[1]


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("owner/name,subset=sample-10BT,weight=2", SourceSpec("owner/name", 2.0, subset="sample-10BT")),
        ("code,field=content,suffix=.py", SourceSpec("code", field="content", suffix=".py")),
        ("a,b/c.txt,weight=0.5", SourceSpec("a,b/c.txt", 0.5)),
    ],
)
def test_a_source_in_words(text: str, spec: SourceSpec) -> None:
    assert SourceSpec.parse(text) == spec


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x,wieght=2", "unknown key 'wieght'; known are weight, field"),
        ("x,weight=two", "is no number: 'two'"),
        ("x,weight=0", "the weight of the source 'x' is 0.0; it must be above 0"),
        ("x,weight=1,more=2", "unknown key 'more'"),
    ],
)
def test_a_slip_in_a_source_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        SourceSpec.parse(text)


def test_what_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="there is no file or folder"):
        SourceSpec(str(tmp_path / "none.txt")).open()
    with pytest.raises(EdgespecError, match="has no parquet, jsonl, text or source files"):
        SourceSpec(str(tmp_path)).open()


def test_an_empty_corpus_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("  \n")
    (tmp_path / "b.py").write_bytes(b"\0\1")
    with pytest.raises(EdgespecError, match="is empty: none of its 2 files holds UTF-8 text"):
        next(SourceSpec(str(tmp_path)).open().documents(0))
    table = tmp_path / "empty.jsonl"
    table.write_text(json.dumps({"text": " "}) + "\n" + json.dumps({"text": ""}) + "\n")
    with pytest.raises(EdgespecError, match="is empty: no row has any text in its field 'text'"):
        next(SourceSpec(str(table)).open().documents(0))


def test_a_field_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    source = SourceSpec(str(_jsonl(tmp_path, field="content"))).open()
    with pytest.raises(EdgespecError, match="no field 'text'; it has 'content', 'id'"):
        next(source.documents(0))
    with pytest.raises(EdgespecError, match=r"the field 'id' of the source .* is no text"):
        next(SourceSpec(str(tmp_path), field="id").open().documents(0))


def test_a_truncated_table_is_a_sentence(tmp_path: Path) -> None:
    path = _parquet(tmp_path) / "0.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(EdgespecError, match=r"could not be read .*checkpoints are kept"):
        list(itertools.islice(SourceSpec(str(path)).open().documents(0), 3))


def test_an_interrupted_download_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that breaks in the middle, as the hub's does when the connection goes."""

    class Stream:
        num_shards = 1

        def shard(self, number: int, index: int) -> Stream:
            return self

        def state_dict(self) -> dict[str, Any]:
            return {}

        def __iter__(self) -> Iterator[dict[str, str]]:
            yield from ({"text": text} for text in TEXTS[:3])
            raise ConnectionError("connection reset by peer")

    monkeypatch.setattr(sources, "BLOCK", 3)
    monkeypatch.setattr(TableSource, "_open", lambda self: Stream())
    stream = SourceSpec("owner/name").open().documents(0)
    assert sorted(next(stream)[0] for _ in range(3)) == TEXTS[:3]
    with pytest.raises(
        EdgespecError, match=r"'owner/name' could not be read .*connection reset.*the same command goes on"
    ):
        next(stream)


def test_a_dataset_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def fails(*_: object, **__: object) -> None:
        raise datasets.exceptions.DatasetNotFoundError("no")

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(EdgespecError, match="no dataset of that name on the Hugging Face hub"):
        next(SourceSpec("owner/nothing").open().documents(0))
