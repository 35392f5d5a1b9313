"""rows.jsonl: what is written comes back, a torn end is dropped, a foreign run is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgespec.bench.rows import Header, Journal, Row, latest_rows, read_lines
from edgespec.errors import EdgespecError

MakeRow = Callable[..., Row]
MakeHeader = Callable[..., Header]


def test_round_trip_and_torn_end(tmp_path: Path, make_row: MakeRow, make_header: MakeHeader) -> None:
    path = tmp_path / "rows.jsonl"
    journal = Journal(path, make_header())
    rows = [make_row("plain", "p\u00e9", 0), make_row("plain", "p1", 0, None, error="it broke")]
    for row in rows:
        journal.append(row)
    journal.close()
    assert read_lines(path) == [make_header(), *rows]
    with path.open("ab") as file:
        file.write(b'{"phase": "measure", "prompt": "p2"')
    assert read_lines(path) == [make_header(), *rows]
    again = Journal(path, make_header(started_at="2027-01-01T00:00:00+00:00"))
    again.close()
    assert again.rows("measure") == rows
    assert path.read_bytes().endswith(b"}\n")


def test_of_rows_with_one_key_the_last_counts(make_row: MakeRow) -> None:
    old, other, new = make_row("plain", seconds=1.0), make_row("fast", seconds=1.0), make_row("plain", seconds=2.0)
    assert latest_rows([old, other, new], "measure") == [other, new]
    assert latest_rows([old], "warmup") == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"seed": 1}, "another seed"),
        ({"gammas": [3]}, "other gammas"),
        ({"prompts_sha256": "00"}, "other prompts"),
        ({"pair": {"sha256": "00"}}, "another pair"),
        ({"machine_fingerprint": "00"}, "another machine"),
    ],
)
def test_another_run_is_refused(
    change: dict[str, object], complaint: str, tmp_path: Path, make_header: MakeHeader
) -> None:
    path = tmp_path / "rows.jsonl"
    Journal(path, make_header()).close()
    with pytest.raises(EdgespecError, match=f"holds a run of {complaint}; choose another --out"):
        Journal(path, make_header(**change))


@pytest.mark.parametrize(
    ("text", "complaint"), [("nonsense\n", "line 1 cannot be read"), ('{"phase": "x"}\n', "line 1")]
)
def test_a_foreign_file_is_refused(text: str, complaint: str, tmp_path: Path, make_header: MakeHeader) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(EdgespecError, match=complaint):
        Journal(path, make_header())


def test_a_file_without_header_is_refused(tmp_path: Path, make_row: MakeRow, make_header: MakeHeader) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(make_row("plain").model_dump_json() + "\n", "utf-8")
    with pytest.raises(EdgespecError, match="does not start with a run's header"):
        Journal(path, make_header())
