"""Hub ids without a hub: every answer it can give, silence included, becomes a sentence or the cache."""

from __future__ import annotations

import shutil
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
        hub.fetch("some/model", Source(id="some/model", revision=COMMIT), tmp_path, {"model.safetensors": 10**15})


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
    with pytest.raises(EdgespecError, match=r"stopped \(ReadError\); run the command again, it resumes"):
        export_pair("some/model", None, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot"]
