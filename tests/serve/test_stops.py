"""Stop strings over streamed text: however it is cut, what comes out is the text before the first of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as some
from scripted_server import METRICS

from edgespec.runtime import Piece, Result
from edgespec.serve.backend import StoppedAnswer
from edgespec.serve.stops import StopText

LETTERS = some.text("ab\n", max_size=12)


@settings(deadline=None)
@given(parts=some.lists(LETTERS, max_size=8), stops=some.lists(some.text("ab\n", min_size=1, max_size=4), max_size=3))
def test_the_parts_join_to_the_text_before_the_first_stop_string(parts: list[str], stops: list[str]) -> None:
    text, held, shown = "".join(parts), StopText(stops), ""
    for part in parts:
        shown += held.add(part)
        assert text.startswith(shown), "what is shown is never taken back"
    shown += held.rest()
    ends = [place for stop in stops if (place := text.find(stop)) >= 0]
    assert held.hit() == bool(ends)
    assert len(shown) >= min(ends, default=len(text))
    if ends:
        first = min(text.find(stop) + len(stop) for stop in stops if stop in text)
        assert len(shown) < first, "no stop string was shown whole"
    else:
        assert shown == text


def test_what_cannot_begin_a_stop_string_is_shown_at_once() -> None:
    held = StopText(["END"])
    assert [held.add("some text E"), held.add("N"), held.add("Dless")] == ["some text ", "", ""]
    assert held.hit() and held.rest() == ""
    assert StopText([]).add("END") == "END"


class Stream:
    """Says each of `texts`, then how it ended; one piece more is under way when it is stopped."""

    def __init__(self, *texts: str) -> None:
        self._left = [Piece(text, (1,), (False,)) for text in texts]
        self._stopped = self._ended = False
        self.asked = 0

    def stop(self) -> None:
        self._stopped, self._left = True, self._left[:1]

    async def __anext__(self) -> Piece | Result:
        if self._ended:
            raise StopAsyncIteration
        if self._left:
            self.asked += 1
            return self._left.pop(0)
        self._ended = True
        return Result("all of it", [1] * self.asked, "cancelled" if self._stopped else "length", METRICS)


def answered(stream: Stream, *stops: str) -> tuple[list[str], Result]:
    async def main() -> list[Piece | Result]:
        return [item async for item in StoppedAnswer(stream, stops)]  # type: ignore[arg-type]

    *pieces, result = asyncio.run(main())
    assert isinstance(result, Result)
    return [piece.text for piece in pieces if isinstance(piece, Piece)], result


def test_an_answer_ends_to_the_character_before_a_stop_string_and_is_computed_no_further() -> None:
    stream = Stream("one t", "wo thr", "ee four", "five", "six")
    pieces, result = answered(stream, "three")
    assert pieces == ["one ", "two ", ""] and stream.asked == 4
    assert result == replace(result, text="one two ", finish_reason="stop")


def test_what_was_held_back_for_a_stop_string_that_never_came_is_given_at_the_end() -> None:
    pieces, result = answered(Stream("one t", "wo"), "two!")
    assert "".join(pieces) == "one two" and result.finish_reason == "length" and result.text == "all of it"
