"""Shards: parquet files of a fixed number of requests each, which appear whole; and the card of what the set is.

A set's folder:

    generate.json            what it was made from; another run with other inputs is refused
    part-00000.parquet ...   answers, in the order of the requests; a shard that lies there is done
    topk-00000.parquet ...   beside them, the target's likeliest next tokens, where they were asked for
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError
from edgespec.staging import write_atomically

from .request import Written

CARD = "generate.json"
SCHEMA = 1


def shard_path(folder: Path, number: int, kind: str = "part") -> Path:
    return folder / f"{kind}-{number:05d}.parquet"


def open_set(folder: Path, inputs: Mapping[str, Any]) -> int:
    """Make the set's folder, or go on with it; how many shards are done already.

    Files of a run that was killed while writing are deleted. Raises EdgespecError for a folder that is no set, a set
    made from other inputs (naming which), and one with a gap among its shards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    card = folder / CARD
    known = {"schema": SCHEMA, **json.loads(json.dumps(inputs))}
    if card.is_file():
        try:
            found = json.loads(card.read_text(encoding="utf-8"))
        except ValueError as error:
            raise EdgespecError(f"'{card}' is damaged ({error}); delete the folder and run again") from error
        if other := [name for name in known if found.get(name) != known[name]]:
            shown = ", ".join(f"{name} was {found.get(name)!r}, now {known[name]!r}" for name in other)
            raise EdgespecError(f"'{folder}' was made from other inputs ({shown}); choose another folder or delete it")
    elif any(folder.iterdir()):
        raise EdgespecError(f"'{folder}' holds files and is no alignment set; choose an empty or new folder")
    else:
        write_atomically(card, json.dumps(known, indent=2) + "\n")
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
    return len(done_shards(folder))


def done_shards(folder: Path, kind: str = "part") -> list[Path]:
    """The shards that lie in `folder`, in order. Raises EdgespecError when one in between is missing."""
    found = sorted(folder.glob(f"{kind}-[0-9][0-9][0-9][0-9][0-9].parquet"))
    for number, path in enumerate(found):
        if path != shard_path(folder, number, kind):
            raise EdgespecError(
                f"'{shard_path(folder, number, kind)}' is missing while later shards are there; bring it back, or "
                "delete the later ones to have them made again"
            )
    return found


def write_shard(folder: Path, number: int, rows: Iterable[Written]) -> Path:
    """Write answers as shard `number`, whole or not at all."""
    return write_table(shard_path(folder, number), [asdict(row) for row in rows], _schema())


def write_table(path: Path, rows: list[dict[str, Any]], schema: Any) -> Path:
    import pyarrow
    import pyarrow.parquet

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), temporary, compression="zstd")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def read_table(path: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """Raises EdgespecError for a damaged file."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            rows: list[dict[str, Any]] = file.read(columns=columns).to_pylist()
            return rows
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise EdgespecError(f"the shard '{path}' is damaged ({error}); delete it and generate again") from error


def read_answers(folder: Path) -> Iterator[Written]:
    """Every answer of the set in order, a shard in memory at a time. Raises EdgespecError when there is none."""
    if not (shards := done_shards(folder)):
        raise EdgespecError(f"'{folder}' holds no alignment set; make one with edgespec train generate")
    names = [field.name for field in fields(Written)]
    for shard in shards:
        for row in read_table(shard, names):
            yield Written(**row)


def _schema() -> Any:
    import pyarrow as pa

    ids = pa.list_(pa.int32())
    return pa.schema(
        [
            ("index", pa.int64()),
            ("task", pa.string()),
            ("prompt", pa.string()),
            ("answer", pa.string()),
            ("prompt_ids", ids),
            ("answer_ids", ids),
            ("temperature", pa.float64()),
            ("top_p", pa.float64()),
            ("finish", pa.string()),
        ]
    )
