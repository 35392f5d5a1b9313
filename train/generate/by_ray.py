"""Many machines: Ray Data hands out the requests, restarts what fails, and writes the parquet. Nothing of it is ours.

Ray decides which requests share a call, so answers drawn at a temperature differ from run to run; greedy ones do not
but for rounding. Each machine needs edgespec with the engine, and sees the target under the same name.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError

from .request import Request, Writer
from .shards import open_set, shard_path
from .writing import as_written


class Answering:
    """What runs on every worker: opens the target once, answers batches of requests."""

    def __init__(self, open_writer: Callable[[], Writer], open_tokenizer: Callable[[], Any]) -> None:
        self._writer = open_writer()
        self._tokenizer = open_tokenizer()

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Columns of requests in, columns of Written out (Ray Data's own form)."""
        names = list(batch)
        requests = [
            Request(**_plain(dict(zip(names, values, strict=True)))) for values in zip(*batch.values(), strict=True)
        ]
        rows = [
            asdict(as_written(request, answer, self._tokenizer))
            for request, answer in zip(requests, self._writer.write(requests), strict=True)
        ]
        return {name: [row[name] for row in rows] for name in rows[0]}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Ray hands out numpy scalars and arrays."""
    found = {
        name: value.item() if hasattr(value, "item") and not getattr(value, "ndim", 0) else value
        for name, value in row.items()
    }
    found["prompt_ids"] = tuple(int(token) for token in found["prompt_ids"])
    return found


def write_with_ray(
    folder: Path,
    requests: Iterable[Request],
    open_writer: Callable[[], Writer],
    open_tokenizer: Callable[[], Any],
    *,
    inputs: Mapping[str, Any],
    workers: int,
    batch: int,
    resources: Mapping[str, float] | None = None,
) -> int:
    """Answer `requests` on `workers` workers of the cluster that Ray finds (or this machine) into the set at `folder`;
    how many shards it has then. What Ray wrote becomes the set's shards when all of it is there.

    resources: of a worker, as Ray names them, such as num_gpus. Raises EdgespecError when Ray is not installed, and for
    a set that has shards already.
    """
    try:
        data = importlib.import_module("ray.data")
    except ModuleNotFoundError as error:
        raise EdgespecError(
            "generating on Ray needs the package 'ray', which is not installed; install it with: "
            'pip install "ray[data]"'
        ) from error
    if open_set(folder, {**inputs, "engine": "ray"}):
        raise EdgespecError(f"'{folder}' has shards already, and Ray starts anew; choose another folder")
    rows = [asdict(request) | {"prompt_ids": list(request.prompt_ids)} for request in requests]
    written = folder / "ray"
    if written.exists():
        shutil.rmtree(written)  # of a run that was killed
    data.from_items(rows).map_batches(
        Answering,
        fn_constructor_args=(open_writer, open_tokenizer),
        batch_size=batch,
        concurrency=workers,
        **(resources or {}),
    ).write_parquet(str(written))
    shards = sorted(written.rglob("*.parquet"))
    for number, shard in enumerate(shards):
        shard.replace(shard_path(folder, number))
    shutil.rmtree(written)
    return len(shards)
