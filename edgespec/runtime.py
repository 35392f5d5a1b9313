"""SpecPipeline: what an app embeds. It picks an engine and a mode, says why, and gives text, tokens and figures."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from .engine.genai import GenaiEngine, Mode, open_engine
from .engine.step import Generation, acceptance_rate, block_efficiency
from .errors import EdgespecError
from .pair import Pair
from .sampling import Sampling

ModeRequest = Literal["auto", "plain", "draft", "lookup", "eagle3"]


@dataclass(frozen=True)
class Metrics:
    """Figures of one answer. What the engine cannot tell is None."""

    ttft_ms: float
    tpot_ms: float | None
    tokens_per_second: float
    acceptance_rate: float | None
    block_efficiency: float | None
    mode: str
    why: str


@dataclass(frozen=True)
class Result:
    """One answer: its text and ids (prompt not included), why it ended, and its figures."""

    text: str
    token_ids: list[int]
    finish_reason: Literal["stop", "length"]
    metrics: Metrics


@dataclass(frozen=True)
class Piece:
    """Text as it streams. `text` may be empty while a character is split over tokens; `from_draft` counts the tokens
    at the head of `token_ids` that were proposed and accepted rather than chosen by the target alone."""

    text: str
    token_ids: tuple[int, ...]
    from_draft: int


class SpecPipeline:
    """A pair, loaded on a device. One generation at a time; calls from several threads wait for one another."""

    def __init__(
        self,
        pair: str | Path | Pair,
        *,
        device: str = "CPU",
        draft_device: str | None = None,
        mode: ModeRequest = "auto",
    ) -> None:
        """Load `pair`. mode "auto" decides per request and never refuses one that some mode can serve; any other mode
        is obeyed or refused with a sentence. Raises EdgespecError."""
        self._pair = pair if isinstance(pair, Pair) else Pair.open(pair)
        self._device = device
        self._draft_device = draft_device
        self._request = mode
        self._engines: dict[Mode, GenaiEngine] = {}
        self._turn = threading.Lock()
        self._turn_of: int | None = None
        self._fallen: dict[Mode, str] = {}
        self._stop = threading.Event()
        self._closed = False
        if mode not in ("auto", "plain", "draft", "lookup", "eagle3"):
            raise EdgespecError(f"there is no mode '{mode}'; choose auto, plain, draft, lookup or eagle3")
        self._pick(Sampling())

    def choose(self, sampling: Sampling) -> tuple[Mode, str]:
        """The mode a request with `sampling` runs in, and why."""
        if self._request != "auto":
            return self._request, "asked for"
        mode, why = self._prefer(sampling)
        for next_best in ("lookup", "plain"):
            if mode not in self._fallen:
                break
            mode, why = next_best, f"mode '{mode}' could not be loaded: {self._fallen[mode]}"
        return mode, why

    def _pick(self, sampling: Sampling) -> tuple[GenaiEngine, Mode, str]:
        """The engine for a request. In auto a mode that cannot be loaded is passed over; plain is the last resort."""
        while True:
            mode, why = self.choose(sampling)
            try:
                return self._engine(mode), mode, why
            except EdgespecError as error:
                if self._request != "auto" or mode == "plain" or self._closed:
                    raise
                self._fallen[mode] = str(error)

    def _prefer(self, sampling: Sampling) -> tuple[Mode, str]:
        on_npu = self._device.upper().startswith("NPU")
        head = self._pair.manifest.draft is not None and self._pair.manifest.draft.kind == "eagle3"
        if sampling.greedy and head and not on_npu:
            return "eagle3", "greedy decoding, and the pair's draft is an EAGLE-3 head"
        if sampling.greedy and self._pair.draft and not head:
            return "draft", "greedy decoding, and the pair has a draft"
        if on_npu:
            return "plain", "an NPU runs speculation only greedily and only with a draft"
        if sampling.greedy:
            return "lookup", "greedy decoding, and the pair has no draft: copies from the context"
        return "lookup", "sampling: prompt lookup keeps the target's distribution, openvino-genai's draft mode does not"

    def generate(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> Result:
        """Continue `prompt` (taken as it stands). temperature 0 is greedy. Raises EdgespecError."""
        sampling = Sampling(temperature, top_k, top_p, seed)
        with self._my_turn():
            engine, mode, why = self._pick(sampling)
            self._stop.clear()
            generation = engine.generate(
                engine.encode(prompt), max_new_tokens, sampling=sampling, on_tokens=lambda _: self._stop.is_set()
            )
            return self._result(engine, generation, mode, why)

    def stream(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> Iterator[Piece | Result]:
        """Yield a `Piece` a step as it comes, then the `Result`. Leaving the loop early stops the generation."""
        sampling = Sampling(temperature, top_k, top_p, seed)
        with self._my_turn():
            engine, mode, why = self._pick(sampling)
            self._stop.clear()
            pieces: queue.SimpleQueue[Sequence[int] | Generation | BaseException] = queue.SimpleQueue()

            def on_tokens(tokens: Sequence[int]) -> bool:
                pieces.put(tokens)
                return self._stop.is_set()

            def work() -> None:
                try:
                    ids = engine.encode(prompt)
                    pieces.put(engine.generate(ids, max_new_tokens, sampling=sampling, on_tokens=on_tokens))
                except BaseException as error:
                    pieces.put(error)

            worker = threading.Thread(target=work, name="edgespec-generate", daemon=True)
            worker.start()
            text = _GrowingText(engine)
            try:
                while True:
                    item = pieces.get()
                    if isinstance(item, BaseException):
                        raise item
                    if isinstance(item, Generation):
                        if rest := text.finish(item.token_ids):
                            yield Piece(rest, (), 0)
                        yield self._result(engine, item, mode, why)
                        return
                    accepted = max(0, len(item) - 1) if mode != "plain" else 0
                    yield Piece(text.add(item), tuple(item), accepted)
            finally:
                self._stop.set()
                worker.join()

    def stop(self) -> None:
        """End the running generation at its next step; what came so far is its result. From any thread."""
        self._stop.set()

    def close(self) -> None:
        """Stop what runs, wait for it, and free the models. Later calls raise EdgespecError."""
        self._closed = True
        self._stop.set()
        with self._my_turn():
            for engine in self._engines.values():
                engine.close()
            self._engines.clear()

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        """Wait for the generation of another thread; refuse one inside a stream of this thread, which would wait for
        itself."""
        if self._turn_of == threading.get_ident():
            raise EdgespecError("a stream of this pipeline is still open in this thread; finish or close it first")
        with self._turn:
            self._turn_of = threading.get_ident()
            try:
                yield
            finally:
                self._turn_of = None

    def __enter__(self) -> SpecPipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _engine(self, mode: Mode) -> GenaiEngine:
        if self._closed:
            raise EdgespecError("this pipeline is closed; make a new SpecPipeline")
        if mode not in self._engines:
            self._engines[mode] = open_engine(
                self._pair,
                device=self._device,
                draft_device=self._draft_device if mode in ("draft", "eagle3") else None,
                mode=mode,
            )
        return self._engines[mode]

    @staticmethod
    def _result(engine: GenaiEngine, generation: Generation, mode: str, why: str) -> Result:
        tpot_s = generation.tpot_s
        metrics = Metrics(
            ttft_ms=generation.ttft_s * 1e3,
            tpot_ms=None if tpot_s is None else tpot_s * 1e3,
            tokens_per_second=generation.tokens_per_second,
            acceptance_rate=acceptance_rate(generation.steps),
            block_efficiency=block_efficiency(generation.steps),
            mode=mode,
            why=why,
        )
        return Result(engine.decode(generation.token_ids), generation.token_ids, generation.finish_reason, metrics)


class _GrowingText:
    """Text of a growing list of ids: only what can no longer change is given out (a character may span tokens)."""

    def __init__(self, engine: GenaiEngine) -> None:
        self._engine = engine
        self._pending: list[int] = []
        self._shown = ""

    def add(self, tokens: Sequence[int]) -> str:
        self._pending.extend(tokens)
        text = self._engine.decode(self._pending)
        if text.endswith("\ufffd"):
            return ""
        fresh = text[len(self._shown) :]
        self._shown = text
        if text.endswith("\n"):  # a safe place to start anew, so that long answers are not decoded over and over;
            self._pending = self._pending[-1:]  # one token stays: some detokenizers drop a blank at the very start
            self._shown = self._engine.decode(self._pending)
        return fresh

    def finish(self, all_ids: Sequence[int]) -> str:
        return self._engine.decode(self._pending)[len(self._shown) :] if all_ids and self._pending else ""
