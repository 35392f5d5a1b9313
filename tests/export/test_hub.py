"""Hub ids without a hub: every answer it can give, silence included, becomes a sentence or the cache."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import huggingface_hub
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from edgespec.errors import EdgespecError
from edgespec.export import assemble, convert, export_pair, hub
from edgespec.export.checkpoint import open_checkpoint
from edgespec.pair import Source

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def answer(monkeypatch: pytest.MonkeyPatch, what: Any) -> None:
    def model_info(*_: Any, **__: Any) -> Any:
        if isinstance(what, Exception):
            raise what
        return what

    monkeypatch.setattr(HfApi, "model_info", model_info)


def http_error(kind: type[Exception], status: int) -> Exception:
    response = httpx.Response(status, request=httpx.Request("GET", "https://hub.invalid/api"))
    return kind("no", response=response)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (
            http_error(RepositoryNotFoundError, 404),
            "no directory 'some/model' and no model of that name on the Hugging",
        ),
        (http_error(GatedRepoError, 403), "'some/model' is gated: accept its terms"),
        (http_error(RevisionNotFoundError, 404), "'some/model' has no revision 'v9'"),
        (httpx.ConnectError("no route"), r"the hub could not be reached \(ConnectError\), and the hub's cache on this"),
        (httpx.ReadTimeout("slow"), r"the hub could not be reached \(ReadTimeout\)"),
        (OSError("socket"), r"the hub could not be reached \(OSError\)"),
    ],
)
def test_what_the_hub_answers_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: Exception, says: str
) -> None:
    answer(monkeypatch, what)
    with pytest.raises(EdgespecError, match=says) as refusal:
        export_pair("some/model", None, tmp_path / "out", revision="v9")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_offline_mode_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, huggingface_hub.errors.OfflineModeIsEnabled("offline"))
    with pytest.raises(
        EdgespecError, match=r"no directory 'some/model', HF_HUB_OFFLINE is set, and .* does not hold it"
    ):
        export_pair("some/model", None, tmp_path / "out")


def test_a_name_that_cannot_be_an_id(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="there is no directory 'a--b', and that is no hub id either"):
        export_pair("a--b", None, tmp_path / "out")


def test_offline_the_cache_is_used_and_its_commit_recorded(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tiny_draft_checkpoint: Path
) -> None:
    repository = cache / "models--some--model"
    shutil.copytree(tiny_draft_checkpoint, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    answer(monkeypatch, httpx.ConnectError("no route"))
    found = open_checkpoint("some/model")
    assert (found.source.id, found.source.revision) == ("some/model", COMMIT)
    assert found.weight_count is not None


class Hub:
    """A hub with one repository; remembers the order in which files were fetched."""

    def __init__(self, source: Path, snapshot: Path) -> None:
        self.source, self.snapshot, self.fetched = source, snapshot, list[str]()
        snapshot.mkdir()

    def info(self) -> SimpleNamespace:
        files = [*self.source.iterdir(), Path("original/consolidated.pth"), Path("modeling.py")]
        sizes = {file: file.stat().st_size if file.is_file() else 7 for file in files}
        names = {file: file.name if file.is_absolute() else file.as_posix() for file in files}
        return SimpleNamespace(
            sha=COMMIT, siblings=[SimpleNamespace(rfilename=names[file], size=sizes[file]) for file in files]
        )

    def download(self, name: str, *, revision: str, allow_patterns: list[str], **_: Any) -> str:
        assert revision == COMMIT
        for path in sorted(self.source.iterdir()):
            if any(fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copyfile(path, self.snapshot / path.name)
                self.fetched.append(path.name)
        return str(self.snapshot)


def test_weights_are_fetched_last_and_at_the_commit_that_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_draft_checkpoint: Path
) -> None:
    there = Hub(tiny_draft_checkpoint, tmp_path / "snapshot")
    answer(monkeypatch, there.info())
    monkeypatch.setattr(huggingface_hub, "snapshot_download", there.download)
    pair = export_pair("some/model", None, tmp_path / "out", revision="main")
    assert there.fetched[-1] == "model.safetensors"
    assert there.fetched.count("model.safetensors") == 1
    assert pair.manifest.target.source.model_dump() == {"id": "some/model", "revision": COMMIT}


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 40), "is not a whole safetensors file"),
        (lambda f: (f / "model.safetensors").write_bytes(_headed(b'{"a":{"dtype":"F16","shape":[9],"data_offsets":'
            b"[0,18]}}")), "it is truncated; fetch it again"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
    ],
)  # fmt: skip
def test_what_was_fetched_is_looked_at_as_a_folder_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_draft_checkpoint: Path,
    damage: Callable[[Path], object],
    says: str,
) -> None:
    there = Hub(tiny_draft_checkpoint, tmp_path / "snapshot")

    def download(name: str, *, revision: str, allow_patterns: list[str], **_: Any) -> str:
        there.download(name, revision=revision, allow_patterns=allow_patterns)
        if "model.safetensors" in allow_patterns:
            damage(there.snapshot)
        return str(there.snapshot)

    answer(monkeypatch, there.info())
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(convert, "convert", lambda *_: pytest.fail("the conversion started"))
    with pytest.raises(EdgespecError, match=says):
        export_pair("some/model", None, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot"]


def _headed(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


def test_pickles_and_code_on_the_hub_are_refused_before_they_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_draft_checkpoint: Path
) -> None:
    source = Path(shutil.copytree(tiny_draft_checkpoint, tmp_path / "in" / "model"))
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    there = Hub(source, tmp_path / "snapshot")
    answer(monkeypatch, there.info())
    monkeypatch.setattr(huggingface_hub, "snapshot_download", there.download)
    with pytest.raises(EdgespecError, match=r"only pickled weights, which can run code .*--allow-pickle"):
        export_pair("some/model", None, tmp_path / "out")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "novel", "auto_map": {"AutoConfig": "configuration.Novel"}}
    (source / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(EdgespecError, match=r"for a hub id together with --revision COMMIT \(the full hash\)"):
        export_pair("some/model", None, tmp_path / "out", allow_pickle=True)
    assert "pytorch_model.bin" not in there.fetched


def test_the_type_that_the_headers_tell_counts_not_the_one_that_was_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_draft_checkpoint: Path
) -> None:
    """config.json says bf16, and the weights turn out to be fp32: the default becomes fp16, as for a folder."""
    source = Path(shutil.copytree(tiny_draft_checkpoint, tmp_path / "in" / "model"))
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    (source / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}), encoding="utf-8")
    there = Hub(source, tmp_path / "snapshot")
    answer(monkeypatch, there.info())
    monkeypatch.setattr(huggingface_hub, "snapshot_download", there.download)
    types: list[str] = []

    def convert_nothing(_: Any, __: Path, dtype: str, *___: Any) -> None:
        types.append(dtype)
        raise EdgespecError("enough")

    monkeypatch.setattr(convert, "convert", convert_nothing)
    with pytest.raises(EdgespecError, match="enough"):
        export_pair("some/model", None, tmp_path / "out")
    assert types == ["fp16"]


def test_only_what_is_still_missing_of_a_download_counts(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tiny_draft_checkpoint: Path
) -> None:
    snapshot = cache / "models--some--model" / "snapshots" / COMMIT
    snapshot.parent.mkdir(parents=True)
    blobs = snapshot.parents[1] / "blobs"
    blobs.mkdir()
    there = Hub(tiny_draft_checkpoint, snapshot)
    info = there.info()
    for number, size in ((1, 10**12), (2, 2 * 10**12), (3, 4 * 10**12)):
        lfs = SimpleNamespace(sha256=f"sha{number}")
        info.siblings.append(SimpleNamespace(rfilename=f"model-{number}.safetensors", size=size, lfs=lfs))
    (snapshot / "model-1.safetensors").touch()  # came in an earlier try
    (blobs / "sha2").touch()  # came with another commit
    answer(monkeypatch, info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", there.download)
    found = hub.find("some/model", None, with_code=False)
    assert found.absent == {"model.safetensors": found.absent["model.safetensors"], "model-3.safetensors": 4 * 10**12}


def test_a_download_and_the_pair_on_one_disk_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_draft_checkpoint: Path
) -> None:
    there = Hub(tiny_draft_checkpoint, tmp_path / "snapshot")
    info = there.info()
    weights = next(file for file in info.siblings if file.rfilename == "model.safetensors")
    weights.size = 4 * 10**9  # 1 G numbers, 2 GB in fp16
    answer(monkeypatch, info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", there.download)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=0, used=0, free=6 * 10**9))
    says = r"6\.00 GB free and about 6\.30 GB are needed \(2\.00 GB in .* for .out., 4\.00 GB in .* for what is still"
    with pytest.raises(EdgespecError, match=says):
        export_pair("some/model", None, tmp_path / "out")
    assert "model.safetensors" not in there.fetched
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot"]


def test_weights_are_not_fetched_when_the_vocabulary_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_draft_checkpoint: Path, tiny_target_checkpoint: Path
) -> None:
    there = Hub(tiny_draft_checkpoint, tmp_path / "snapshot")
    answer(monkeypatch, there.info())
    monkeypatch.setattr(huggingface_hub, "snapshot_download", there.download)
    monkeypatch.setattr(assemble, "require_shared", lambda *_: (_ for _ in ()).throw(EdgespecError("differ")))
    with pytest.raises(EdgespecError, match="differ"):
        export_pair(tiny_target_checkpoint, "some/model", tmp_path / "out")
    assert "tokenizer.json" in there.fetched
    assert "model.safetensors" not in there.fetched


def test_code_is_fetched_only_when_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_draft_checkpoint: Path
) -> None:
    asked: list[str] = []
    there = Hub(tiny_draft_checkpoint, tmp_path / "snapshot")

    def download(name: str, *, revision: str, allow_patterns: list[str], **_: Any) -> str:
        asked.extend(allow_patterns)
        return there.download(name, revision=revision, allow_patterns=allow_patterns)

    answer(monkeypatch, there.info())
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    hub.find("some/model", COMMIT, with_code=False)
    assert "modeling.py" not in asked
    hub.find("some/model", COMMIT, with_code=True)
    assert "modeling.py" in asked
    assert not [name for name in asked if "/" in name]


def test_a_disk_too_small_for_the_weights_is_refused_before_they_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("it was fetched"))
    with pytest.raises(EdgespecError, match=r"GB free and about 1050000\.00 GB are needed; free some space"):
        hub.fetch(
            "some/model", Source(id="some/model", revision=COMMIT), tmp_path, *[{"model.safetensors": 10**15}] * 2
        )


def test_a_download_that_stops_is_a_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_draft_checkpoint: Path
) -> None:
    there = Hub(tiny_draft_checkpoint, tmp_path / "snapshot")

    def download(name: str, *, revision: str, allow_patterns: list[str], **_: Any) -> str:
        if "model.safetensors" in allow_patterns:
            raise httpx.ReadError("connection lost")
        return there.download(name, revision=revision, allow_patterns=allow_patterns)

    answer(monkeypatch, there.info())
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(convert, "convert", lambda *_: pytest.fail("the conversion started"))
    with pytest.raises(EdgespecError, match=r"stopped \(ReadError\); run the command again: files that came whole"):
        export_pair("some/model", None, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot"]
