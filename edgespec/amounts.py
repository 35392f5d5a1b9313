"""Amounts as people write them: `50M` parameters, `2.5B` tokens, `16GB` of memory."""

from __future__ import annotations

import math
import re

from .errors import EdgespecError

_NUMBER = r"\s*((?:[0-9][0-9_,]*\.?[0-9]*|\.[0-9]+)(?:e[0-9]{1,3})?)\s*"
_COUNT = re.compile(rf"{_NUMBER}([kmbgt]?)\s*", re.IGNORECASE)
_BYTES = re.compile(rf"{_NUMBER}(?:([kmgt])(i?)b?|b)?\s*", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "b": 3, "g": 3, "t": 4}


def parse_count(text: str, name: str) -> int:
    """`50M`, `2.5B`, `300k`, `1_000`, `1e9` or a plain number, at least 1. Raises EdgespecError; `name` is what it is
    for."""
    found = _COUNT.fullmatch(text)
    value = _value(found[1], 1000 ** _POWERS[found[2].lower()]) if found else 0
    if value < 1:
        raise EdgespecError(f"{name} is '{text}'; give a number above 0, such as 300k, 50M or 2.5B")
    return value


def parse_bytes(text: str, name: str) -> int:
    """Bytes of `16GB`, `16 g`, `8GiB` (powers of 1024) or a plain number. Raises EdgespecError; `name` is what it is
    for."""
    found = _BYTES.fullmatch(text)
    base = 1024 if found and found[3] else 1000
    value = _value(found[1], base ** _POWERS[(found[2] or "").lower()]) if found else 0
    if value < 1:
        raise EdgespecError(f"{name} is '{text}'; give a size above 0, such as 500MB or 16GB")
    return value


def _value(number: str, factor: int) -> int:
    value = float(number.replace("_", "").replace(",", "")) * factor
    return int(value) if math.isfinite(value) else 0
