"""An answer whose client is gone ends, whenever in a turn of the event loop the news comes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from scripted_server import ScriptedAnswer, ScriptedBackend

from edgespec.runtime import Options, Piece, Result
from edgespec.serve import Limits, Served
from edgespec.serve.answering import Answering
from edgespec.serve.answers import Form
from edgespec.serve.service import Service

STEPS = 50


class Leaving(ScriptedBackend):
    """The client goes at the third step, which is there `turns` turns of the loop later."""

    def __init__(self, left: asyncio.Event, turns: int) -> None:
        super().__init__()
        self.left, self.turns = left, turns

    def answer(self, prompt_ids: Any, options: Options) -> ScriptedAnswer:
        return _Step(self, "abc", options)


class _Step(ScriptedAnswer):
    async def __anext__(self) -> Piece | Result:
        backend = self._backend
        assert isinstance(backend, Leaving)
        if self._said == 2:
            backend.left.set()
            for _ in range(backend.turns):
                await asyncio.sleep(0)
        return await super().__anext__()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("turns", range(8))
def test_a_step_that_comes_as_its_client_goes_is_the_last(turns: int, stream: bool) -> None:
    """`asyncio.wait_for` of Python 3.11 drops a cancellation that comes just as what it waits for is done."""

    async def main() -> None:
        left, sent = asyncio.Event(), list[Any]()
        backend = Leaving(left, turns)
        service = Service(backend, Served("tiny"), Limits(), "fp", 1)

        async def receive() -> dict[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        form = Form("tiny", False, "fp")
        answering = Answering(service, form, "abc", [1], Options(max_new_tokens=STEPS), stream, "client")
        await asyncio.wait_for(answering({"type": "http"}, receive, send), 30)
        assert backend.computed <= 6, "a step or two of those that were there already"
        assert service.desk.running == 0 and not service.answering
        assert 'edgespec_answers_total{ended="client_gone"} 1.0' in service.metrics.text().decode()
        assert all(message.get("more_body", True) for message in sent), "nothing was brought to its end"

    asyncio.run(main())
