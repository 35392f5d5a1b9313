"""A file is hashed while another writes it; where that cannot be trusted, nothing is said."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from edgespec import hashing, pair
from edgespec.follower import BLOCK, follow
from edgespec.hashing import HashBeside, sha256_of
from edgespec.pair import FileRecord, record_files, recording


def test_a_file_that_grows_is_hashed_whole(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    pieces = [b"a" * 1000, b"b" * (2 * BLOCK + 7), b"", b"c"]
    with HashBeside(path) as beside, path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
            file.flush()
        file.close()
        found = beside.result()
    whole = b"".join(pieces)
    assert found == (len(whole), hashlib.sha256(whole).hexdigest())
    assert sha256_of(path) == found[1]


def test_what_was_written_before_it_looked_and_after_is_read(tmp_path: Path) -> None:
    path, whole = tmp_path / "weights.bin", threading.Event()
    answers: list[tuple[int, str] | None] = []
    reader = threading.Thread(target=lambda: answers.append(follow(path, whole)))
    path.write_bytes(b"first")
    reader.start()
    with path.open("ab") as file:
        file.write(b", then more")
    whole.set()
    reader.join(60)
    assert answers == [(16, hashlib.sha256(b"first, then more").hexdigest())]


@pytest.mark.parametrize("change", ["replaced", "cut"])
def test_a_file_that_is_not_what_was_read_has_no_hash(tmp_path: Path, change: str) -> None:
    path = tmp_path / "weights.bin"

    class ChangedAtTheEnd(threading.Event):
        """By the last look, but before it."""

        def wait(self, timeout: float | None = None) -> bool:
            if change == "cut":
                path.write_bytes(b"new")
            else:
                (tmp_path / "other").write_bytes(b"old weights")
                (tmp_path / "other").replace(path)
            self.set()
            return True

    path.write_bytes(b"old weights")
    assert follow(path, ChangedAtTheEnd()) is None


def test_a_file_that_never_appears_has_no_hash(tmp_path: Path) -> None:
    with HashBeside(tmp_path / "nothing") as beside:
        assert beside.result() is None


def test_without_a_process_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.bin"
    with HashBeside(path) as beside:
        path.write_bytes(b"weights")
        assert beside._process is not None
        beside._process.kill()
        assert beside.result() is None
    monkeypatch.setattr(hashing, "frozen", lambda: True)
    with HashBeside(path) as beside:
        assert beside.result() is None


def test_none_is_left_that_holds_the_file_when_the_writer_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    code = (
        "import sys\nfrom pathlib import Path\nfrom edgespec.hashing import HashBeside\n"
        "with HashBeside(Path(sys.argv[1])) as beside:\n"
        "    Path(sys.argv[1]).write_bytes(b'half')\n    print(beside._process.pid, flush=True)\n    sys.stdin.read()"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    follower = psutil.Process(int(writer.stdout.readline()))
    writer.kill()
    writer.communicate()
    gone, alive = psutil.wait_procs([follower], timeout=60)
    assert gone and not alive


def test_no_process_is_left_when_the_writer_fails(tmp_path: Path) -> None:
    known: dict[str, FileRecord] = {}
    others = {child.pid for child in psutil.Process().children()}  # of earlier tests
    with pytest.raises(OSError, match="disk full"), recording(tmp_path / "weights.bin", known):
        (beside,) = (child for child in psutil.Process().children() if child.pid not in others)
        raise OSError("disk full")
    assert not beside.is_running() and known == {}


def test_a_record_holds_for_the_size_it_was_made_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, known = tmp_path / "weights.bin", {}
    with recording(path, known):
        path.write_bytes(b"weights")
    monkeypatch.setattr(pair, "sha256_of", lambda path: "computed")
    assert record_files(tmp_path, known)["weights.bin"].sha256 == hashlib.sha256(b"weights").hexdigest()
    path.write_bytes(b"others")
    assert record_files(tmp_path, known)["weights.bin"].sha256 == "computed"
