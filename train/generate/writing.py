"""Prompts in, answers out, a shard at a time: what is done stays done, nothing is asked or kept twice.

A shard is a fixed stretch of requests and the engine gets them in the same calls whether or not the run was
interrupted, so a seeded engine gives the rows of an uninterrupted run. Memory holds one shard's requests and answers,
and 16 bytes for each prompt and answer seen.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edgespec.errors import EdgespecError
from edgespec.progress import SILENT, Progress

from .prompts import Prompt, encode, magpie_prefix, written_request
from .request import Answer, Request, Writer, Written, per_request_seed
from .shards import done_shards, open_set, read_table, write_shard


@dataclass(frozen=True)
class Settings:
    """How the target answers. temperatures: prompt i is answered at temperatures[i % len], or with `each` at every one
    of them; 0 is greedy, the others draw with `top_p`. longest_prompt: longer ones are left out, in tokens.
    shard: requests of a shard."""

    temperatures: tuple[float, ...] = (0.0, 0.6, 0.8, 1.0)
    each: bool = False
    top_p: float = 0.95
    max_new_tokens: int = 256
    longest_prompt: int = 1024
    shard: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperatures or not all(0 <= temperature < 100 for temperature in self.temperatures):
            raise EdgespecError(f"temperatures must lie between 0 (greedy) and 100, not {list(self.temperatures)}")
        if not 0 < self.top_p <= 1:
            raise EdgespecError(f"top_p must lie above 0 and at most at 1 (off), not {self.top_p}")
        for name in ("max_new_tokens", "longest_prompt", "shard"):
            if getattr(self, name) < 1:
                raise EdgespecError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Report:
    """What a set holds. seconds: the engine's, of this call; dropped: answers that said what another had said."""

    answers: int
    tokens: int
    shards: int
    dropped: int
    seconds: float
    tokens_per_second: float | None
    finished: dict[str, int]


def plan_requests(prompts: Iterable[tuple[list[int], str]], settings: Settings) -> Iterator[Request]:
    """Requests for prompts (token ids, task), each prompt once, those that are empty or too long left out."""
    seen: set[bytes] = set()
    index = 0
    kept = 0
    for ids, task in prompts:
        if not 0 < len(ids) <= settings.longest_prompt or not _new(seen, ids):
            continue
        many = settings.temperatures if settings.each else (settings.temperatures[kept % len(settings.temperatures)],)
        for temperature in many:
            seed = per_request_seed(settings.seed, index)
            yield Request(index, tuple(ids), temperature, settings.top_p, seed, settings.max_new_tokens, task)
            index += 1
        kept += 1


def write_alignment_set(
    folder: Path,
    writer: Writer,
    prompts: Iterable[Prompt | Sequence[int]],
    tokenizer: Any,
    settings: Settings,
    *,
    inputs: Mapping[str, Any],
    progress: Progress = SILENT,
) -> Report:
    """Answer `prompts` (text, or token ids as they stand) into the set at `folder`, going on where a run stopped.

    inputs: what target and prompts are, for the set's card; with the settings and the engine they decide the answers.
    Raises EdgespecError when the set was made from others, and when no prompt is left to answer.
    """
    encoded = (
        (encode(prompt, tokenizer), prompt.task) if isinstance(prompt, Prompt) else (list(prompt), "")
        for prompt in prompts
    )
    return _write(folder, writer, plan_requests(encoded, settings), tokenizer, settings, inputs, progress)


def write_own_prompts(
    folder: Path,
    writer: Writer,
    tokenizer: Any,
    count: int,
    settings: Settings,
    *,
    inputs: Mapping[str, Any],
    temperature: float = 1.0,
    progress: Progress = SILENT,
) -> Iterator[Prompt]:
    """Up to `count` requests that the target writes itself (Magpie), kept as a set of their own at `folder`; fewer
    where it repeats itself.

    Raises EdgespecError when it writes none that is a request.
    """
    before, behind = magpie_prefix(tokenizer)
    ids = tuple(int(token) for token in tokenizer(before, add_special_tokens=False)["input_ids"])
    if not ids:
        raise EdgespecError(
            "this target has neither a chat template nor a beginning of text to write from; give prompts"
        )
    requests = (
        Request(
            index,
            ids,
            temperature,
            settings.top_p,
            per_request_seed(~settings.seed & 0xFFFFFFFF, index),
            settings.max_new_tokens,
        )
        for index in range(count)
    )
    own = {**inputs, "self_written": count, "temperature": temperature}
    _write(folder, writer, requests, tokenizer, settings, own, progress)
    chat = bool(getattr(tokenizer, "chat_template", None))
    found = 0
    for shard in done_shards(folder):
        for row in read_table(shard, ["answer"]):
            text = written_request(row["answer"], behind)
            if text:
                found += 1
                yield Prompt(text, chat, "self-written")
    if not found:
        raise EdgespecError("the target wrote no request of its own; give prompts instead")


def _write(
    folder: Path,
    writer: Writer,
    requests: Iterator[Request],
    tokenizer: Any,
    settings: Settings,
    inputs: Mapping[str, Any],
    progress: Progress,
) -> Report:
    done = open_set(folder, {**inputs, "engine": writer.name, "settings": asdict(settings)})
    totals = _Totals()
    for shard in done_shards(folder):
        totals.take(read_table(shard, ["prompt_ids", "answer_ids", "finish"]))
    number = 0
    with progress.task(f"the target writes with {writer.name}") as task:
        while block := list(islice(requests, settings.shard)):
            if number >= done:
                write_shard(folder, number, _answer(block, writer, tokenizer, totals))
                task.describe(f"the target writes with {writer.name}: {totals.describe()}")
            number += 1
    if not totals.answers:
        raise EdgespecError(
            f"no prompt was left to answer: all are empty or longer than {settings.longest_prompt} tokens"
        )
    return totals.report(number)


class _Totals:
    """Counts, what was said already, and the engine's clock."""

    def __init__(self) -> None:
        self.answers = self.tokens = self.dropped = self.new_tokens = 0
        self.seconds = 0.0
        self.finished: dict[str, int] = {}
        self._seen: set[bytes] = set()

    def is_new(self, prompt_ids: Sequence[int], answer_ids: Sequence[int]) -> bool:
        return _new(self._seen, [*prompt_ids, -1, *answer_ids])

    def take(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            self.is_new(row["prompt_ids"], row["answer_ids"])
            self.count(row["answer_ids"], row["finish"])

    def count(self, answer_ids: Sequence[int], finish: str) -> None:
        self.answers += 1
        self.tokens += len(answer_ids)
        self.finished[finish] = self.finished.get(finish, 0) + 1

    def rate(self) -> float | None:
        return self.new_tokens / self.seconds if self.seconds else None

    def describe(self) -> str:
        rate = self.rate()
        return f"{self.answers} answers, {self.tokens} tokens" + (f", {rate:.0f} tokens/s" if rate else "")

    def report(self, shards: int) -> Report:
        return Report(
            self.answers,
            self.tokens,
            shards,
            self.dropped,
            self.seconds,
            self.rate(),
            dict(sorted(self.finished.items())),
        )


def _answer(block: list[Request], writer: Writer, tokenizer: Any, totals: _Totals) -> list[Written]:
    rows = []
    for start in range(0, len(block), writer.concurrent):
        requests = block[start : start + writer.concurrent]
        clock = time.perf_counter()
        answers = writer.write(requests)
        totals.seconds += time.perf_counter() - clock
        totals.new_tokens += sum(len(answer.token_ids) for answer in answers)
        for request, answer in zip(requests, answers, strict=True):
            if not answer.token_ids or not totals.is_new(request.prompt_ids, answer.token_ids):
                totals.dropped += 1
                continue
            totals.count(answer.token_ids, answer.finish)
            rows.append(as_written(request, answer, tokenizer))
    return rows


def as_written(request: Request, answer: Answer, tokenizer: Any) -> Written:
    """The row that a shard keeps."""

    def text(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    return Written(
        index=request.index,
        task=request.task,
        prompt=text(request.prompt_ids),
        answer=str(tokenizer.decode(answer.token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)),
        prompt_ids=list(request.prompt_ids),
        answer_ids=list(answer.token_ids),
        temperature=request.temperature,
        top_p=request.top_p,
        finish=answer.finish,
    )


def _new(seen: set[bytes], ids: Sequence[int]) -> bool:
    """Whether these ids were not seen before; they are from now on."""
    digest = hashlib.blake2b(np.asarray(ids, np.int64).tobytes(), digest_size=16).digest()
    if digest in seen:
        return False
    seen.add(digest)
    return True
