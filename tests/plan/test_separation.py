"""The check at build: wide models pass, narrow ones are refused, and rounding is what it says."""

from __future__ import annotations

import numpy as np
import pytest

from edgespec.errors import EdgespecError
from edgespec.plan.rotation import TURN, choose_rotation
from edgespec.plan.separation import LEAST, four_bits, require_separation


def lead(vocab: int, width: int, tied: bool) -> float:
    draw = np.random.default_rng(0)
    place = np.arange(vocab)
    sample = draw.choice(vocab, 64, replace=False)
    if tied:
        rotation = choose_rotation(width, 4 * width, vocab, 0)
        rows = rotation.rows(place)
        hidden = rows[sample] + TURN * rotation.turned(rows[sample])
        return require_separation(hidden, rows, (sample + 1) % vocab, width, 0)
    rows = draw.standard_normal((vocab, width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return require_separation(rows[sample], np.roll(rows, 1, axis=0), (sample + 1) % vocab, width, 0)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("vocab", "width"), [(8192, 64), (8192, 192), (32000, 64), (32000, 192)])
def test_tokens_stay_apart_at_every_width_that_a_shape_can_have(vocab: int, width: int, tied: bool) -> None:
    assert lead(vocab, width, tied) > 3 * LEAST


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_too_narrow_is_refused(tied: bool) -> None:
    with pytest.raises(EdgespecError, match=r"8,192 tokens do not stay apart in a model 10 wide"):
        lead(8192, 10, tied)


def test_a_head_that_gives_another_token_is_refused() -> None:
    rows = np.eye(64, dtype=np.float32)
    with pytest.raises(EdgespecError, match="leads by 0%"):
        require_separation(rows, rows, (np.arange(64) + 1) % 64, 64, 0)


def test_the_rotation_turns_every_token_into_the_next_exactly() -> None:
    rotation = choose_rotation(96, 256, 1001, 3)
    rows = rotation.rows(np.arange(1001))
    turned = rotation.turned(rows)
    constant = len(rotation.signs)
    assert np.abs(turned[:, constant:] - np.roll(rows, -1, axis=0)[:, constant:]).max() < 1e-4
    assert not turned[:, :constant].any()
    moving = rows[:, constant:] / np.linalg.norm(rows[:, constant:], axis=1, keepdims=True)
    cosines = moving @ moving.T
    assert cosines[~np.eye(1001, dtype=bool)].max() == pytest.approx(rotation.closeness, abs=1e-4)


def test_the_mlp_is_that_rotation() -> None:
    """down(silu(gate x) * up x) of an embedding is TURN times it, turned."""
    rotation = choose_rotation(96, 256, 1001, 3)
    weights = rotation.mlp(256, 0.0, 1)
    rows = rotation.rows(np.arange(1001))
    gate = rows @ weights["gate"].T
    out = (gate / (1 + np.exp(-gate)) * (rows @ weights["up"].T)) @ weights["down"].T
    assert np.abs(out - TURN * rotation.turned(rows)).max() < 0.02 * TURN


def test_four_bits_keep_to_fifteen_levels_a_group() -> None:
    weights = np.random.default_rng(1).standard_normal((3, 256)).astype(np.float32)
    rounded = four_bits(weights)
    for row in rounded.reshape(-1, 128):
        assert len(np.unique(row)) <= 16
    error = np.linalg.norm(rounded - weights) / np.linalg.norm(weights)
    assert 0.05 < error < 0.2
