"""Amounts as people write them."""

from __future__ import annotations

import pytest

from edgespec.amounts import parse_bytes, parse_count
from edgespec.errors import EdgespecError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("50M", 50_000_000), ("2.5b", 2_500_000_000), ("2G", 2_000_000_000), ("300k", 300_000), ("1T", 10**12),
        ("7", 7), (" 1_000 ", 1000), ("1,000", 1000), (".5k", 500), ("1.", 1), ("3 M", 3_000_000),
        ("1e9", 10**9), ("1.5e3k", 1_500_000),
    ],
)  # fmt: skip
def test_counts(text: str, value: int) -> None:
    assert parse_count(text, "--tokens") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16GB", 16 * 10**9), ("16 gb", 16 * 10**9), ("16g", 16 * 10**9), ("8GiB", 8 * 2**30), ("8Gi", 8 * 2**30),
        ("500", 500), ("500B", 500), ("1.5TB", 1_500_000_000_000), ("2k", 2000), ("2KiB", 2048),
    ],
)  # fmt: skip
def test_bytes(text: str, value: int) -> None:
    assert parse_bytes(text, "--memory") == value


@pytest.mark.parametrize("text", ["", "many", "-5M", "0", "0.2", "5X", "1e999", "nan", "inf", "5 M B", "M", "9" * 400])
def test_what_is_no_amount_is_named_with_what_is(text: str) -> None:
    with pytest.raises(EdgespecError, match=r"--tokens is '.*'; give a number above 0, such as 300k, 50M or 2\.5B"):
        parse_count(text, "--tokens")
    with pytest.raises(EdgespecError, match=r"--memory is '.*'; give a size above 0, such as 500MB or 16GB"):
        parse_bytes(text, "--memory")
