"""Stop strings over streamed text: however it is cut, what comes out is the text before the first of them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as some

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
    assert held.hit == bool(ends)
    assert len(shown) >= min(ends, default=len(text))
    if ends:
        first = min(text.find(stop) + len(stop) for stop in stops if stop in text)
        assert len(shown) < first, "no stop string was shown whole"
    else:
        assert shown == text


def test_what_cannot_begin_a_stop_string_is_shown_at_once() -> None:
    held = StopText(["END"])
    assert [held.add("some text E"), held.add("N"), held.add("Dless")] == ["some text ", "", ""]
    assert held.hit and held.rest() == ""
    assert StopText([]).add("END") == "END"
