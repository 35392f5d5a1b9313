"""One call of `edgespec train generate`: a target, prompts, an engine; what a command line can say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError
from edgespec.progress import SILENT, Progress

from ..models import load_tokenizer
from ..stages import fingerprint
from .by_openvino import OpenVinoWriter
from .by_ray import write_with_ray
from .by_transformers import TransformersWriter
from .by_vllm import VllmWriter
from .distributions import open_target, write_top_k
from .prompts import Prompt, encode, read_prompts
from .request import EngineName, Writer
from .shards import done_shards
from .writing import Settings, plan_requests, write_alignment_set, write_own_prompts

SELF = "self"
RAY_BATCH = 64


@dataclass(frozen=True)
class AlignmentJob:
    """target: a checkpoint (folder or hub id), or a folder of an OpenVINO model with its tokenizer. prompts: what
    read_prompts takes, or `self`. count: prompts at most. concurrent: answers at a time, None for the engine's own."""

    target: str
    prompts: str
    engine: EngineName
    count: int | None = None
    column: str | None = None
    device: str = "CPU"
    concurrent: int | None = None

    def inputs(self) -> dict[str, Any]:
        """What decides the answers besides the settings: files and folders by content, the hub's by name."""
        named = {}
        for name in ("target", "prompts"):
            value = getattr(self, name)
            named[name] = fingerprint(Path(value)) if Path(value).exists() else value
        return {**named, "count": self.count, "column": self.column}


def run_alignment_job(
    job: AlignmentJob,
    settings: Settings,
    out: Path,
    *,
    ir: Path | None,
    top_k_logits: int | None = None,
    ray_workers: int = 0,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Answer, then keep the likeliest tokens if asked for; the report as a mapping.

    ir: what openvino-genai loads, for the engine openvino. Raises EdgespecError naming what cannot be done.
    """
    tokenizer = load_tokenizer(job.target)
    if job.prompts == SELF and job.count is None:
        raise EdgespecError("how many requests shall the target write itself? give --count")
    open_writer = partial(_writer, job, ir)
    if ray_workers:
        requests = plan_requests(((encode(p, tokenizer), p.task) for p in _given(job)), settings)
        report = _with_ray(out, requests, open_writer, job, settings, ray_workers)
    else:
        writer = open_writer()
        try:
            report = _here(out, writer, tokenizer, job, settings, progress)
        finally:
            writer.close()
    tokens = 0
    if top_k_logits:
        tokens = write_top_k(out, open_target(job.target, ir, job.device), top_k_logits, progress=progress)
    return {**report, "top_k_tokens": tokens}


def _here(
    out: Path, writer: Writer, tokenizer: Any, job: AlignmentJob, settings: Settings, progress: Progress
) -> dict[str, Any]:
    prompts: Iterable[Prompt] = _given(job) if job.prompts != SELF else ()
    if job.prompts == SELF:
        assert job.count is not None
        own = out.with_name(f"{out.name}-prompts")
        prompts = write_own_prompts(own, writer, tokenizer, job.count, settings, inputs=job.inputs(), progress=progress)
    return asdict(
        write_alignment_set(out, writer, prompts, tokenizer, settings, inputs=job.inputs(), progress=progress)
    )


def _given(job: AlignmentJob) -> Iterable[Prompt]:
    return islice(read_prompts(job.prompts, column=job.column), job.count)


def _with_ray(
    out: Path,
    requests: Iterable[Any],
    open_writer: Callable[[], Writer],
    job: AlignmentJob,
    settings: Settings,
    workers: int,
) -> dict[str, Any]:
    shards = write_with_ray(
        out,
        requests,
        open_writer,
        partial(load_tokenizer, job.target),
        inputs={**job.inputs(), "settings": asdict(settings)},
        workers=workers,
        batch=job.concurrent or RAY_BATCH,
    )
    import pyarrow.parquet

    answers = sum(pyarrow.parquet.read_metadata(path).num_rows for path in done_shards(out))
    return {"answers": answers, "tokens": None, "shards": shards, "tokens_per_second": None}


def _writer(job: AlignmentJob, ir: Path | None) -> Writer:
    options: Mapping[str, Any] = {} if job.concurrent is None else {"concurrent": job.concurrent}
    if job.engine == "vllm":
        return VllmWriter(job.target, **options)
    if job.engine == "transformers":
        return TransformersWriter(job.target, **options)
    assert ir is not None, "the command exports a checkpoint first"
    return OpenVinoWriter(ir, device=job.device, **options)
