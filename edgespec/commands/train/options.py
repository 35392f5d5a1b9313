"""Options that every subcommand of edgespec train has."""

from __future__ import annotations

from typing import Annotated

import typer

from ...errors import EdgespecError

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000, "t": 1_000_000_000_000}


def count(text: str, option: str) -> int:
    """`50M`, `2.5B`, `300k` or a plain number, as an int. Raises EdgespecError naming the option."""
    number = text.strip().lower().replace("_", "").replace(",", "")
    unit = number[-1:] if number[-1:].isalpha() else ""
    try:
        value = float(number.removesuffix(unit)) * _UNITS[unit]
        if not 1 <= value < float("inf"):
            raise ValueError
    except (ValueError, KeyError):
        raise EdgespecError(f"{option} is '{text}'; give a number above 0 such as 300k, 50M or 2.5B") from None
    return int(value)
