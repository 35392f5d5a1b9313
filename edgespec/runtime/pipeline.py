"""SpecPipeline: what an app embeds. It picks an engine and a mode, says why, and gives text, tokens and figures."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from typing_extensions import Unpack

from ..engine.reading import Reading
from ..engine.step import Generation
from ..errors import EdgespecError, EngineFailed, MemoryShortage
from ..pair import Pair
from ..settings import describe
from ..telemetry import stop_upstream_reports
from . import npu, routing
from .answering import Answering, plain_time
from .engines import Engines, Opened
from .governor import Governor, governor_for
from .memory import shape_of
from .model_cache import DEFAULT, LIMIT_BYTES, ModelCache
from .modes import GENAI_PLAIN, NATIVE_PLAIN, Way, parse
from .placement import LAST_RESORT, Placement, is_there, place
from .requests import Options, Request, make_request
from .results import Explanation, Piece, Result
from .routing import Choice, Wishes
from .streams import AsyncStream, Stream
from .telling import nothing, result_of
from .text import Words
from .worker import SLICE_S, Busy, Job, Worker

if TYPE_CHECKING:
    from .chat import Chat


@dataclass(frozen=True)
class Fallen:
    """Why a way is passed over on a device. for_memory: only until there is room for it."""

    what: str
    why: str
    for_memory: bool = False

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


class SpecPipeline:
    """A pair, loaded on a device. One answer at a time, in the order asked for; any thread may call, and any task.

    Its models live on a thread of their own. A pipeline that is no longer referred to ends it, as `close` does.
    """

    def __init__(
        self,
        pair: str | Path | Pair,
        *,
        device: str = "AUTO",
        draft_device: str | None = None,
        mode: str = "auto",
        gamma: int | None = None,
        threshold: float | None = None,
        settings: Mapping[str, Any] | None = None,
        adapters: Mapping[str | Path, float] | None = None,
        context: int | None = None,
        cache_dir: str | Path | None = DEFAULT,
        cache_limit_bytes: int = LIMIT_BYTES,
        memory_limit_bytes: int | None = None,
        busy: Busy = "queue",
        background: bool = False,
        npu_lengths: npu.Lengths | None = None,
    ) -> None:
        """Load `pair`.

        mode: "auto" decides a request and never refuses one that some mode can serve; any other (plain, draft, lookup,
        native-draft, ... see `edgespec.runtime.modes`) is obeyed or refused with a sentence. gamma, threshold: of an
        explicit mode. settings: OpenVINO properties, over those of a tuned profile. adapters: LoRA files (safetensors)
        with their weights. context: tokens of prompt and answer at most; None for the model's own. cache_dir: where
        compiled models are kept for the next start, at most cache_limit_bytes of them; None for nowhere.
        memory_limit_bytes: what loading may take; None for what is free. busy: whether a call during another one waits
        or is refused. background: return at once and load meanwhile; calls wait for it, `ready` tells.
        npu_lengths: what models are compiled for on an NPU before a request asks for more.
        Raises EdgespecError; with `background`, the calls do.
        """
        self._way = parse(mode, gamma, threshold)
        if draft_device is not None and self._way is not None and not self._way.drafts:
            raise EdgespecError(f"a draft device was given for mode '{mode}', which uses no draft; leave it out")
        if busy not in ("queue", "refuse"):
            raise EdgespecError(f"busy must be 'queue' or 'refuse', not '{busy}'")
        self._pair = pair if isinstance(pair, Pair) else None
        self._root = pair.root if isinstance(pair, Pair) else Path(pair)
        self._device = device
        self._draft_device = draft_device
        self._settings = dict(settings or {})
        self._adapters = {Path(path): float(weight) for path, weight in (adapters or {}).items()}
        self._context = context
        self._cache = ModelCache.at(cache_dir, cache_limit_bytes)
        self._memory_limit_bytes = memory_limit_bytes
        self._lengths = npu_lengths or npu.Lengths()
        self._fallen: dict[tuple[str, str], Fallen] = {}
        self._governors: dict[str, Governor] = {}
        self._adapter_config: Any = None
        self._words: Words | None = None
        self._engines: Engines | None = None
        self._problem: EdgespecError | None = None
        self._ready = False
        self._loaded = threading.Event()  # whichever way loading ended
        self._worker = Worker(busy)
        self._finalizer = weakref.finalize(self, _abandon, self._worker)
        if background:
            me = weakref.ref(self)
            self._worker.submit(Job(lambda job: _load_in_background(me, job), lambda _: None), always=True)
        else:
            try:
                self._worker.call(self._load, always=True)
            except BaseException:
                self._finalizer()
                raise

    # ---- answering -------------------------------------------------------------------------------------------------

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        on_piece: Callable[[Piece], object] | None = None,
        **options: Unpack[Options],
    ) -> Result:
        """Continue `prompt`, taken as it stands: a text, or token ids. on_piece: called in this thread with each piece
        as it comes; what it raises ends the answer and is raised here. Options: see `Options`. Raises EdgespecError."""
        request = make_request(self._encoded(prompt), options)
        return self._wait_for(request, on_piece)

    def stream(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Stream:
        """An iterator over a `Piece` a step as it comes, then the `Result`. The answer begins at once; leaving the loop
        early ends it."""
        return self._stream(make_request(self._encoded(prompt), options))

    async def agenerate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Result:
        """`generate` for an event loop, which stays free. Cancelling the task ends the answer."""
        request = make_request(self._encoded(prompt), options)
        return await self._await(request)

    def astream(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> AsyncStream:
        """`stream` for the running event loop: `async for item in pipeline.astream(...)`."""
        request = make_request(self._encoded(prompt), options)
        return AsyncStream(self._worker, lambda job: self._answer(job, request, job.deliver), self._the_words)

    def chat(self, system: str | None = None, *, raw: bool = False, messages: Sequence[Mapping[str, str]] = ()) -> Chat:
        """A conversation that keeps its context, and what the caches hold of it. raw: for a model without a chat
        template, one growing text. messages: turns that came before."""
        from .chat import Chat

        return Chat(self, system, raw=raw, messages=messages)

    def stop(self) -> None:
        """End the running answer at its next step, and those that wait before they begin; what came so far is their
        result. Loading goes on. Returns at once, from any thread."""
        self._worker.cancel_all()

    # ---- life ------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether loading is over, and went well."""
        return self._ready

    @property
    def has_chat_template(self) -> bool:
        """Whether the model was made for conversations; waits for loading."""
        self.wait_until_ready()
        return self._the_words().has_chat_template

    @property
    def context(self) -> int | None:
        """Tokens that prompt and answer may have together; None where the model names no limit. Waits for loading."""
        self.wait_until_ready()
        return self._limit

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of `text` as `generate` reads it; special=False: without what the tokenizer adds by itself, such as
        a BOS, for the output of a chat template. Any thread may call, while answers are written too."""
        self.wait_until_ready()
        return self._the_words().encode(text, special=special)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids. Any thread may call."""
        self.wait_until_ready()
        return self._the_words().decode(ids)

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The model's chat template applied to `messages` (role and content each), ready to be continued. Any thread
        may call. Raises EdgespecError when the model has no template, or when it refuses these messages."""
        self.wait_until_ready()
        return self._the_words().chat_prompt(messages)

    def wait_until_ready(self) -> None:
        """Wait for background loading, not for answers. Raises EdgespecError when it failed."""
        self._worker.refuse_own_thread()
        while not self._loaded.wait(SLICE_S):  # in slices, for Ctrl-C: see worker
            pass
        self._worker.require_open()
        self._require_loaded()

    def close(self) -> None:
        """Stop what runs, wait for it (and for loading, which cannot be interrupted), and free the models. Later calls
        raise EdgespecError; a second `close` does nothing."""
        self._worker.close(self._unload)

    def __enter__(self) -> SpecPipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- saying why ------------------------------------------------------------------------------------------------

    def choose(self, **options: Unpack[Options]) -> tuple[str, str]:
        """The mode a request with these options is answered in as things stand, and why."""
        self.wait_until_ready()
        choice = self._foreseen(make_request(list, options))
        return choice.way.name, choice.why

    def explain(self) -> Explanation:
        """How this pipeline decides: device, profile, modes, what could not be loaded, the governor, memory, cache."""
        self.wait_until_ready()
        where = self._place
        lines = [f"device: {where.device} ({where.why})"]
        if where.draft_device:
            lines.append(f"draft device: {where.draft_device}")
        lines.append(f"profile: {where.profile_reason}")
        lines.append(f"settings: {describe(self._effective_settings())}")
        for kind, options in (("greedy", Options()), ("sampling", Options(temperature=1.0))):
            try:
                choice = self._foreseen(make_request(list, options))
                lines.append(f"{kind}: mode '{choice.way.name}', {choice.why}")
            except EdgespecError as error:
                lines.append(f"{kind}: refused, {error}")
        lines += [f"passed over: {name} on {device}: it {why}" for (name, device), why in list(self._fallen.items())]
        for opened in self._the_engines.opened:
            takes = f", {opened.estimate.sentence()}" if opened.estimate else ""
            lines.append(f"loaded: {opened.way.name} on {opened.device}{takes}")
        for name, governor in list(self._governors.items()):
            lines.append(f"governor of {name}: {governor.sentence()}")
        lines.append(self._cache.sentence() if self._cache else "compiled models are not kept")
        return Explanation(tuple(lines))

    # ---- on the worker's thread ------------------------------------------------------------------------------------

    def _load(self, job: Job | None = None) -> None:
        """What most requests will need. In auto mode a way that does not load is passed over."""
        stop_upstream_reports()
        self._pair = self._pair or Pair.open(self._root)
        if self._draft_device is not None and self._pair.draft is None:
            raise EdgespecError(
                f"the draft device '{self._draft_device}' was given, and the pair '{self._root}' has no draft; leave "
                "it out"
            )
        self._place = place(self._pair, self._device, self._draft_device, auto=self._way is None)
        self._words = Words(self._pair.loadable_target)
        shape = shape_of(self._pair)
        longest = shape.context if shape else None
        limits = [limit for limit in (self._context, longest) if limit]
        if self._context is not None and self._context < 2:
            raise EdgespecError(f"context must be at least 2 tokens, one to read and one to write, not {self._context}")
        if self._context and longest and self._context > longest:
            raise EdgespecError(
                f"context={self._context} was asked for and this model's is {longest}; leave it out, or less"
            )
        self._limit = min(limits) if limits else None
        self._engines = Engines(
            self._pair,
            self._settings,
            cache=self._cache,
            context=self._context,
            memory_limit_bytes=self._memory_limit_bytes,
            lengths=self._lengths,
        )
        self._adapter_config = self._read_adapters()
        if self._way is not None:
            reason = routing.why_not(self._way, self._wishes(make_request(list, Options())), self._place)
            if reason is not None:
                raise EdgespecError(f"mode '{self._way.name}' cannot be used: {reason}")
        self._pick(make_request(list, Options()))
        self._ready = True
        self._loaded.set()

    def _unload(self, job: Job) -> None:
        if self._engines is not None:
            self._engines.close()
        self._ready = False

    def _answer(self, job: Job, request: Request, emit: Callable[[Any], object] | None) -> Result:
        queued_s = time.perf_counter() - job.asked_at
        self._require_loaded()
        if job.cancelled:
            return nothing(self._choices(request)[0], self._place.device, queued_s)
        ids = request.prompt()
        if not ids:
            raise EdgespecError("the prompt is empty; give at least one token to continue from")
        limit = min(request.max_new_tokens, self._room_behind(ids))
        answering = Answering(job, request, ids, limit, emit)
        opened, choice = self._pick(request, len(ids), limit)
        while True:
            way = choice.way
            partner = self._plain_of(way)
            may_leave = way.speculative and self._the_engines.is_open(partner, self._place)
            try:
                if answering.run(opened, self._the_pair, way.gamma, way.threshold, may_leave=may_leave):
                    break
                opened, choice = self._plain_partner(choice)
            except EngineFailed as failure:
                self._pass_over(opened, choice, failure)
                if job.cancelled or answering.complete:
                    break
                opened, choice = self._go_on(answering, choice, failure)
            finally:
                answering.flush()
        assert answering.last is not None
        if not job.cancelled:  # else the clock holds steps that were computed and dropped
            self._note_plain_pace(choice, answering.last)
        return result_of(answering, opened, choice, queued_s, self._the_words().decode)

    def _pass_over(self, opened: Opened, choice: Choice, failure: EngineFailed) -> None:
        """An engine broke down. It is dropped, so that an explicit mode's next request loads anew; in auto mode its way
        is passed over from now on, and its device with it when that is gone or nothing else is left to try there.
        Raises the failure when that was all."""
        place, way = self._place, choice.way
        self._the_engines.discard(opened)
        if self._way is not None:
            raise failure
        again = (way.name, place.device) in self._fallen
        self._fallen[way.name, place.device] = Fallen("failed while it answered", str(failure))
        if again or not is_there(place.device):
            if place.device == LAST_RESORT:
                raise failure
            self._move_to_last_resort(failure)

    def _go_on(self, answering: Answering, choice: Choice, failure: EngineFailed) -> tuple[Opened, Choice]:
        """Where the rest of an answer comes from."""
        said = len(answering.tokens)
        opened, then = self._pick(
            answering.request, len(answering.prompt_ids) + said, answering.limit - said, continued=said > 0
        )
        reason = "" if str(failure) in then.why else f" ({failure})"
        why = f"mode '{choice.way.name}' failed after {said} tokens of this answer{reason}; {then.why}"
        return opened, Choice(then.way, why, then.governed)

    def _pick(
        self, request: Request, prompt: int = 1, answer: int = 1, *, continued: bool = False
    ) -> tuple[Opened, Choice]:
        """The engine for a request: the first of its choices that loads, the last one's refusal when none does.
        continued: for the rest of an answer."""
        refusal: EdgespecError | None = None
        for choice in self._choices(request, continued):
            if choice.governed and not self._speculates(choice):
                choice = self._governed_off(choice)
            key = choice.way.name, self._place.device
            try:
                opened = self._open(choice, prompt, answer)
                if key in self._fallen and self._fallen[key].for_memory:
                    del self._fallen[key]
                return opened, choice
            except EdgespecError as error:
                if self._way is not None:
                    raise
                self._fallen[key] = Fallen("could not be loaded", str(error), isinstance(error, MemoryShortage))
                refusal = error
        if refusal is not None and self._way is None and self._place.device != LAST_RESORT:
            self._move_to_last_resort(refusal)
            return self._pick(request, prompt, answer, continued=continued)
        assert refusal is not None
        raise refusal

    def _foreseen(self, request: Request) -> Choice:
        """What `_pick` would begin with, for any thread: nothing is loaded, and no governor is moved."""
        choice = self._choices(request)[0]
        governor = self._governors.get(choice.way.name) if choice.governed else None
        if governor is None or (governor.would_speculate and self._may_try(choice, governor)):
            return choice
        return self._governed_off(choice)

    def _governed_off(self, choice: Choice) -> Choice:
        return Choice(self._plain_of(choice.way), self._governor(choice.way).sentence())

    def _choices(self, request: Request, continued: bool = False) -> list[Choice]:
        """What to try, best first; never empty. Raises EdgespecError for what an explicit mode cannot do."""
        wishes = replace(self._wishes(request), continued=continued)
        place = self._place  # one and the same, should the worker move to the last resort meanwhile
        if self._way is not None:
            return [routing.explicit(self._way, wishes, place)]
        found = routing.ways(wishes, place)
        standing = [choice for choice in found if self._stands(choice.way, place)]
        if not found:
            raise EdgespecError(
                f"nothing on {place.device} can do this: {routing.why_not(GENAI_PLAIN, wishes, place)}; "
                f"{routing.why_not(NATIVE_PLAIN, wishes, place)}"
            )
        if not standing:  # all were passed over: the last may have been a passing trouble, such as full memory
            standing = found[-1:]
        skipped = found[: found.index(standing[0])]
        if skipped:
            first = skipped[0].way.name
            why = f"{standing[0].why}; mode '{first}' {self._fallen[first, place.device]}"
            standing[0] = Choice(standing[0].way, why, standing[0].governed)
        return standing

    def _stands(self, way: Way, place: Placement) -> bool:
        """Whether a way is worth trying: it did not fall, or for want of memory that is there now."""
        fallen = self._fallen.get((way.name, place.device))
        return fallen is None or (fallen.for_memory and self._the_engines.has_room(way, place))

    def _wishes(self, request: Request) -> Wishes:
        draft = self._the_pair.manifest.draft
        return Wishes(
            sampling=request.sampling,
            constrained=request.grammar is not None,
            has_draft=draft is not None,
            head=draft is not None and draft.kind == "eagle3",
            adapters=bool(self._adapters),
            chat=request.chat,
            gguf=self._the_pair.manifest.target.kind == "gguf",
            prefix=request.prefix_asked,
        )

    def _open(self, choice: Choice, prompt: int, answer: int) -> Opened:
        governor = self._governor(choice.way) if choice.governed else None
        lengths = self._lengths
        if self._place.npu:
            gamma = choice.way.gamma or 0
            lengths = lengths.holding(prompt, answer, gamma)
        return self._the_engines.open(
            choice.way, self._place, governor=governor, lengths=lengths, adapters=self._adapter_config
        )

    def _move_to_last_resort(self, refusal: EdgespecError) -> None:
        """Auto mode, and nothing loads on the device: go on where everything does."""
        was = self._place.device
        moved = place(self._the_pair, LAST_RESORT, None, auto=True)
        why = f"nothing could be loaded on {was} ({refusal}), so the CPU is used"
        self._place = Placement(LAST_RESORT, None, why, moved.profile, moved.profile_reason)
        self._governors = {}  # they measured the other device

    # ---- the governor ----------------------------------------------------------------------------------------------

    def _governor(self, way: Way) -> Governor:
        if way.name not in self._governors:
            self._governors[way.name] = governor_for(way, self._place.profile)
        return self._governors[way.name]

    def _speculates(self, choice: Choice) -> bool:
        """Of whole answers, where single steps cannot be decoded plainly."""
        governor = self._governor(choice.way)
        return governor.interleaves or (self._may_try(choice, governor) and governor.speculate())

    def _may_try(self, choice: Choice, governor: Governor) -> bool:
        """Whether an engine that was turned off may be tried again: it is open still, or fits beside the plain one. A
        try that had to free the one to load the other would cost more than it tells."""
        return governor.interleaves or governor.on or self._the_engines.has_room(choice.way, self._place)

    def _plain_of(self, way: Way) -> Way:
        profile = self._place.profile
        engine = profile.plain.engine if profile is not None and not self._place.npu else way.engine
        return GENAI_PLAIN if engine == "genai" else NATIVE_PLAIN

    def _plain_partner(self, choice: Choice) -> tuple[Opened, Choice]:
        plain = Choice(
            choice.way if not choice.way.speculative else self._plain_of(choice.way),
            f"began in mode '{choice.way.name}'; {self._governor(choice.way).sentence()}",
        )
        return self._open(plain, 1, 1), plain

    def _note_plain_pace(self, choice: Choice, generation: Generation) -> None:
        """A plain answer tells the governors of whole answers what plain decoding takes now."""
        if choice.way.speculative:
            return
        for governor in self._governors.values():
            timed = plain_time(generation)
            if not governor.interleaves and timed is not None:
                governor.saw(*timed, speculated=False)

    # ---- small things ----------------------------------------------------------------------------------------------

    def _room_behind(self, ids: Sequence[int]) -> int:
        if self._limit is None:
            return 2**31 - 1
        if len(ids) >= self._limit:
            raise EdgespecError(
                f"the prompt has {len(ids):,} tokens and the context holds {self._limit:,}, the answer included; "
                "shorten the prompt"
            )
        return self._limit - len(ids)

    def _read_adapters(self) -> Any:
        if not self._adapters:
            return None
        import openvino_genai

        config = openvino_genai.AdapterConfig()
        for path, weight in self._adapters.items():
            if not path.is_file():
                raise EdgespecError(f"there is no LoRA file '{path}'; give a .safetensors file")
            try:
                config.add(openvino_genai.Adapter(str(path)), weight)
            except RuntimeError as error:
                raise EdgespecError(f"the LoRA file '{path}' cannot be read: {str(error).strip()}") from error
        return config

    def _effective_settings(self) -> dict[str, Any]:
        profile = self._place.profile
        return {**(profile.settings if profile is not None else {}), **self._settings}

    def _encoded(self, prompt: str | Sequence[int]) -> Callable[[], list[int]]:
        if not isinstance(prompt, str):
            return lambda: list(prompt)
        return lambda: Reading(prompt).ids(self._the_words())

    def _wait_for(self, request: Request, on_piece: Callable[[Piece], object] | None = None) -> Result:
        if on_piece is None:
            result: Result = self._worker.call(lambda job: self._answer(job, request, None))
            return result
        with self._stream(request) as stream:
            for item in stream:
                if isinstance(item, Piece):
                    on_piece(item)
        assert stream.result is not None
        return stream.result

    def _stream(self, request: Request) -> Stream:
        return Stream(self._worker, lambda job: self._answer(job, request, job.deliver), self._the_words)

    async def _await(self, request: Request) -> Result:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Result] = loop.create_future()

        def settle(item: Any) -> None:
            if outcome.done():
                return
            if isinstance(item, BaseException):
                outcome.set_exception(item)
            else:
                outcome.set_result(item)

        job = Job(lambda job: self._answer(job, request, None), lambda item: loop.call_soon_threadsafe(settle, item))
        self._worker.submit(job)
        try:
            return await outcome
        except asyncio.CancelledError:
            job.cancel()
            raise

    def _require_loaded(self) -> None:
        if self._problem is not None:
            raise EdgespecError(str(self._problem)) from self._problem
        if not self._ready:
            raise EdgespecError("this pipeline was closed before it was loaded; make a new SpecPipeline")

    def _the_words(self) -> Words:
        assert self._words is not None, "it is loaded before anything is asked"
        return self._words

    @property
    def _the_engines(self) -> Engines:
        assert self._engines is not None
        return self._engines

    @property
    def _the_pair(self) -> Pair:
        assert self._pair is not None
        return self._pair


def _load_in_background(me: weakref.ref[SpecPipeline], job: Job) -> None:
    pipeline = me()
    if pipeline is None:
        return
    try:
        if not job.cancelled:  # by `close`
            pipeline._load()
    except EdgespecError as error:
        pipeline._problem = error
    except BaseException as error:
        pipeline._problem = EdgespecError(f"loading failed: {type(error).__name__}: {error}")
    finally:
        pipeline._loaded.set()


def _abandon(worker: Worker) -> None:
    """The pipeline is gone, or the program ends: so does its thread."""
    worker.close(lambda job: None)
