"""A conversation: its turns are kept, each answer continues from all of them, and the caches keep what they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import Unpack

from ..engine.reading import Reading
from ..errors import EdgespecError
from .requests import Options, Request, make_request
from .results import Piece, Result
from .streams import AsyncStream, Stream
from .worker import Job

if TYPE_CHECKING:
    from .pipeline import SpecPipeline


class Chat:
    """One conversation of a pipeline; it may have several. Turns asked for at once are answered in their order, each
    seeing those before it. A turn that fails leaves no trace; one that was stopped keeps what it said."""

    def __init__(
        self,
        pipeline: SpecPipeline,
        system: str | None = None,
        *,
        raw: bool = False,
        messages: Sequence[Mapping[str, str]] = (),
    ) -> None:
        """raw: no template; the conversation is one text, to which each message and each answer is appended as it
        stands. Raises EdgespecError for messages that are none."""
        for message in messages:
            if set(message) != {"role", "content"}:
                raise EdgespecError(
                    f"a message has a role and a content, such as {{'role': 'user', ...}}; got {message}"
                )
        self._pipeline = pipeline
        self._raw = raw
        self._first = [{"role": "system", "content": system}] if system else []
        self._messages = [*self._first, *(dict(message) for message in messages)]

    @property
    def messages(self) -> tuple[dict[str, str], ...]:
        """The turns so far, the system's first."""
        return tuple(dict(message) for message in list(self._messages))

    def forget(self) -> None:
        """Begin anew, with the same system message. A turn asked for before, even if it still runs, belongs to the
        conversation that is forgotten."""
        self._messages = list(self._first)

    def ask(
        self, message: str, *, on_piece: Callable[[Piece], object] | None = None, **options: Unpack[Options]
    ) -> Result:
        """The answer to `message`; see SpecPipeline.generate."""
        if on_piece is None:
            result: Result = self._pipeline._worker.call(self._work(message, options, None))
            return result
        with self.stream(message, **options) as stream:
            for item in stream:
                if isinstance(item, Piece):
                    on_piece(item)
        assert stream.result is not None
        return stream.result

    def stream(self, message: str, **options: Unpack[Options]) -> Stream:
        """See SpecPipeline.stream."""
        return Stream(self._pipeline._worker, self._work(message, options), self._pipeline._the_words)

    def astream(self, message: str, **options: Unpack[Options]) -> AsyncStream:
        """See SpecPipeline.astream."""
        return AsyncStream(self._pipeline._worker, self._work(message, options), self._pipeline._the_words)

    async def aask(self, message: str, **options: Unpack[Options]) -> Result:
        """See SpecPipeline.agenerate."""
        stream = self.astream(message, **options)
        async for _ in stream:
            pass
        assert stream.result is not None
        return stream.result

    def _work(self, message: str, options: Options, emit: Any = True) -> Callable[[Job], Result]:
        """What the worker does when this turn has come: the turns before it are known by then."""
        if not message:
            raise EdgespecError("the message is empty; say something")
        turn = {"role": "user", "content": message}
        conversation = self._messages  # this list, also when `forget` has put another in its place
        request: Request = make_request(lambda: self._prompt_ids([*conversation, turn]), options, chat=True)

        def work(job: Job) -> Result:
            result = self._pipeline._answer(job, request, job.deliver if emit else None)
            if result.token_ids or result.finish_reason != "cancelled":
                conversation.extend([turn, {"role": "assistant", "content": result.text}])
            return result

        return work

    def _prompt_ids(self, turns: Sequence[Mapping[str, str]]) -> list[int]:
        words = self._pipeline._the_words()
        if self._raw:
            return Reading("".join(message["content"] for message in turns)).ids(words)
        return Reading.of_chat(words, turns).ids(words)
