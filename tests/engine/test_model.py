"""Whatever was fed, refused, branched and taken back: the next logits are those of a clean run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from families import WINDOWS

from edgespec.engine import masked, paged
from edgespec.engine.masked import MaskedSequence
from edgespec.engine.model import Model, ModelSequence, Trees, open_model
from edgespec.engine.stateful import StatefulModel
from edgespec.errors import EdgespecError
from edgespec.settings import EXACT

CLOSE = 1e-4
TEXT = [int(token) for token in np.random.default_rng(0).integers(1, 300, 80)]
WAYS: dict[str, Trees] = {"paged": "whole", "masked": "grown"}

Clean = Callable[[Sequence[int]], np.ndarray]


@pytest.fixture(scope="module")
def clean(tiny_pair: Path) -> Clean:
    return clean_runs(tiny_pair / "target")


def clean_runs(folder: Path) -> Clean:
    """ids -> logits behind each, by the IR as it was exported, from an empty cache."""
    model = StatefulModel(str(folder / "openvino_model.xml"), "CPU", EXACT)

    def feed(ids: Sequence[int]) -> np.ndarray:
        model.reset()
        return model.feed(np.asarray(ids)).copy()

    return feed


@pytest.fixture(scope="module", params=list(WAYS))
def model(request: pytest.FixtureRequest, tiny_pair: Path) -> Model:
    opened = open_model(tiny_pair / "target", "CPU", EXACT, trees=WAYS[request.param])
    assert opened.way == request.param
    return opened


@pytest.fixture
def sequence(model: Model) -> ModelSequence:
    return model.sequence()


def assert_close(logits: np.ndarray, expected: np.ndarray) -> None:
    assert logits.shape == expected.shape
    assert float(np.abs(logits - expected).max()) <= CLOSE


def test_each_row_is_that_of_a_clean_run(sequence: ModelSequence, clean: Clean) -> None:
    assert_close(sequence.feed(TEXT[:20], rows=20), clean(TEXT[:20]))
    assert_close(sequence.feed(TEXT[20:27], rows=3), clean(TEXT[:27])[-3:])
    assert list(sequence.tokens) == TEXT[:27]


def test_a_prompt_of_any_length_leaves_nothing_but_itself(sequence: ModelSequence, clean: Clean) -> None:
    """Passes may be longer than what is fed; nothing may see it."""
    said = 0
    for n in (19, 1, 9, 17, 2, 25):
        assert_close(sequence.feed(TEXT[said : said + n], rows=1), clean(TEXT[: said + n])[-1:])
        said += n
        assert list(sequence.tokens) == TEXT[:said]


def test_few_lengths_of_passes_occur() -> None:
    lengths = [paged.pass_length(n) for n in range(1, 257)]
    assert all(0 <= length - n < n / 8 for n, length in enumerate(lengths, start=1))
    assert len(set(lengths)) == 48 and lengths[:8] == list(range(1, 9)) and lengths[255] == 256


def test_a_prompt_in_chunks_equals_one_pass(
    sequence: ModelSequence, clean: Clean, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paged, "CHUNK", 9)
    monkeypatch.setattr(masked, "FIRST_CHUNK", 13)
    monkeypatch.setattr(masked, "LATER_CHUNK", 5)
    assert_close(sequence.feed(TEXT[:40], rows=2), clean(TEXT[:40])[-2:])
    assert list(sequence.tokens) == TEXT[:40]


def test_refused_tokens_leave_no_trace(sequence: ModelSequence, clean: Clean) -> None:
    sequence.feed(TEXT[:10])
    sequence.grow([TEXT[10], 7, 8, 9])
    sequence.keep((0,))
    sequence.feed([5, 6, 7])
    sequence.rollback(11)
    assert_close(sequence.feed(TEXT[11:20], rows=9), clean(TEXT[:20])[11:])


def test_branches_of_a_tree_are_separate_runs(sequence: ModelSequence, clean: Clean) -> None:
    sequence.feed(TEXT[:10])
    a, b, c, d, e, f = 11, 22, 33, 44, 55, 66
    tree = sequence.grow([a, b, c, d, e, f], [-1, -1, 0, 1, 2, 2]).copy()
    for node, branch in enumerate([[a], [b], [a, c], [b, d], [a, c, e], [a, c, f]]):
        assert_close(tree[node], clean(TEXT[:10] + branch)[-1])
    sequence.keep((0, 2, 5))
    assert list(sequence.tokens) == [*TEXT[:10], a, c, f]
    assert_close(sequence.feed([9, 8], rows=2), clean([*TEXT[:10], a, c, f, 9, 8])[-2:])


def test_a_tree_grows_over_several_passes(tiny_pair: Path, clean: Clean) -> None:
    sequence = open_model(tiny_pair / "target", "CPU", EXACT, trees="grown").sequence()
    sequence.feed(TEXT[:10])
    sequence.grow([11, 22], [-1, -1])
    assert_close(sequence.grow([33, 44], [0, 1])[1], clean([*TEXT[:10], 22, 44])[-1])
    assert_close(sequence.grow([55], [2])[0], clean([*TEXT[:10], 11, 33, 55])[-1])
    sequence.keep((0, 2, 4))
    assert_close(sequence.feed([9])[0], clean([*TEXT[:10], 11, 33, 55, 9])[-1])


def test_sequences_do_not_disturb_one_another(model: Model, clean: Clean) -> None:
    one, other = model.sequence(), model.sequence()
    one.feed(TEXT[:10])
    other.feed(TEXT[40:60])
    one.feed(TEXT[10:12])
    other.rollback(15)
    assert_close(one.feed(TEXT[12:15], rows=3), clean(TEXT[:15])[12:])
    assert_close(other.feed(TEXT[:3], rows=3), clean(TEXT[40:55] + TEXT[:3])[-3:])


def test_a_common_prefix_is_kept(sequence: ModelSequence, clean: Clean) -> None:
    sequence.feed(TEXT[:30])
    asked = [*TEXT[:20], 3, 4, 5]
    assert sequence.reuse(asked) == 20
    assert_close(sequence.feed(asked[20:])[0], clean(asked)[-1])
    assert sequence.reuse(asked) == len(asked) - 1, "one token must be left to feed"
    assert_close(sequence.feed(asked[-1:])[0], clean(asked)[-1])
    assert sequence.reuse([1, 2, 3]) == 0
    assert_close(sequence.feed([1, 2, 3])[0], clean([1, 2, 3])[-1])


def test_five_hundred_refusals_keep_the_cache_small(sequence: ModelSequence, clean: Clean) -> None:
    sequence.feed(TEXT[:40])
    for step in range(500):
        sequence.grow([3, 4, 5 + step % 7])
        sequence.rollback(40)
    assert sequence.slots < 40 + 200
    assert_close(sequence.feed(TEXT[40:44], rows=4), clean(TEXT[:44])[40:])


def test_compaction_changes_nothing(tiny_pair: Path, clean: Clean) -> None:
    sequence = open_model(tiny_pair / "target", "CPU", EXACT, trees="grown").sequence()
    assert isinstance(sequence, MaskedSequence)
    sequence.feed(TEXT[:12])
    for _ in range(5):
        sequence.grow([1, 2, 3])
        sequence.keep(())
    sequence.grow([TEXT[12], 9, TEXT[13]], [-1, 0, 0])
    sequence.keep((0, 2))
    assert (sequence.slots, sequence.dead) == (30, 16)
    sequence.compact()
    assert (sequence.slots, sequence.dead, sequence.compactions) == (14, 0, 1)
    assert_close(sequence.feed(TEXT[14:18], rows=4), clean(TEXT[:18])[14:])
    sequence.rollback(5)
    assert_close(sequence.feed(TEXT[5:8], rows=3), clean(TEXT[:8])[5:])


def test_a_cache_in_bytes_survives_trees_and_compaction(tiny_pair: Path, clean: Clean) -> None:
    """With caches in int8 and float16 the logits are near, and the likeliest token is the same."""
    for trees in ("whole", "grown"):
        for precision in ({}, {"KV_CACHE_PRECISION": "u8"}, {"KV_CACHE_PRECISION": "f16"}):
            settings = {"INFERENCE_PRECISION_HINT": "f32", **precision}
            sequence = open_model(tiny_pair / "target", "CPU", settings, trees=trees).sequence()  # type: ignore[arg-type]
            sequence.feed(TEXT[:40])
            sequence.grow([1, 2, TEXT[40], 3, TEXT[41]], [-1, 0, -1, 2, 2])
            sequence.keep((2, 4))
            if isinstance(sequence, MaskedSequence):
                sequence.compact()
            logits, expected = sequence.feed(TEXT[42:44], rows=2), clean(TEXT[:44])[42:]
            assert float(np.abs(logits - expected).max()) < 0.1
            assert logits.argmax(-1).tolist() == expected.argmax(-1).tolist()


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("trees", ["none", "whole", "grown"])
def test_families_with_windows(family: Callable[[str], Path], name: str, trees: Trees) -> None:
    """Tokens taken back, and the branches of a tree, do not count towards a window."""
    clean = clean_runs(family(name))
    opened = open_model(family(name), "CPU", EXACT, trees=trees)
    windowed = WINDOWS[name] != {None}
    assert opened.way == ("masked" if trees == "grown" or (windowed and trees == "whole") else "paged")
    sequence = opened.sequence()
    sequence.feed(TEXT[:20])
    sequence.feed([1, 2, 3, 4, 5])
    sequence.rollback(20)
    if trees == "none":
        sequence.feed(TEXT[20:23])
    else:
        sequence.grow([TEXT[20], 7, TEXT[21], 8, TEXT[22]], [-1, -1, 0, 1, 2])
        sequence.keep((0, 2, 4))
    assert_close(sequence.feed(TEXT[23:40], rows=17), clean(TEXT[:40])[23:])


def test_only_the_wanted_rows_are_computed(sequence: ModelSequence) -> None:
    sequence.feed(TEXT[:10])
    assert sequence.grow(TEXT[10:14]).shape == (4, 320)
    sequence.keep(())
    assert sequence.grow(TEXT[10:14], rows=1).shape == (1, 320)


def test_a_failed_pass_is_a_sentence_and_leaves_an_empty_cache(
    sequence: ModelSequence, clean: Clean, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequence.feed(TEXT[:5])

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("somewhere\nthe device is gone")

    with monkeypatch.context() as patch:
        patch.setattr("edgespec.engine.model._infer", lambda: broken)
        with pytest.raises(EdgespecError, match="a pass over 2 tokens failed: the device is gone"):
            sequence.feed([1, 2])
    assert len(sequence.tokens) == 0
    assert_close(sequence.feed(TEXT[:5])[0], clean(TEXT[:5])[-1])


def test_a_chain_cannot_be_grown_on_an_open_tree(sequence: ModelSequence) -> None:
    sequence.feed(TEXT[:5])
    sequence.grow([1, 2], [-1, -1])
    with pytest.raises(EdgespecError, match="open"):
        sequence.grow([3])


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="could not be loaded on CPU"):
        open_model(tmp_path, "CPU")
