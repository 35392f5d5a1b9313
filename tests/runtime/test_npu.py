"""The NPU's whole path, emulated on the CPU by NPUW_DEVICES as upstream's own tests do: fixed lengths, gamma compiled
in, what is ignored refused, our own counts. A real NPU's compiler and driver are not in this."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgespec import EdgespecError, Pair, SpecPipeline
from edgespec.runtime import Lengths, Piece, npu
from edgespec.settings import EXACT

PROMPT = "def add(a, b):\n    return"
SHORT = Lengths(prompt=64, response=64, gamma=4)


@pytest.fixture(autouse=True)
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPUW_DEVICES", "CPU")
    monkeypatch.setattr(npu, "STEP", 64)


@pytest.fixture
def expected(pipeline: SpecPipeline) -> list[int]:
    return pipeline.generate(PROMPT, max_new_tokens=24).token_ids


def test_auto_decodes_plainly_until_a_profile_says_that_a_draft_pays(tiny_pair: Path, expected: list[int]) -> None:
    with SpecPipeline(tiny_pair, device="NPU", npu_lengths=SHORT) as opened:
        result = opened.generate(PROMPT, max_new_tokens=24)
        assert (result.metrics.mode, result.metrics.device) == ("plain", "NPU")
        assert result.token_ids == expected
        stopped = opened.generate(PROMPT, max_new_tokens=24, stop=[result.text[4:6]])
        assert stopped.finish_reason == "stop" and stopped.text == result.text[: result.text.index(result.text[4:6])]
        with pytest.raises(EdgespecError, match="nothing on NPU can do this: a grammar is kept by the native engine"):
            opened.generate(PROMPT, regex="a+")


@pytest.mark.parametrize(("device", "draft_device"), [("NPU", None), ("NPU", "CPU"), ("CPU", "NPU")])
def test_a_draft_on_an_npu_says_the_same_with_our_own_figures(
    tiny_pair: Path, expected: list[int], device: str, draft_device: str | None
) -> None:
    with SpecPipeline(
        tiny_pair, device=device, draft_device=draft_device, mode="draft", gamma=3, npu_lengths=SHORT
    ) as opened:
        for _ in range(2):  # upstream's counters never reset: the second answer's figures would be wrong
            *items, result = opened.stream(PROMPT, max_new_tokens=24)
            assert not isinstance(result, Piece) and result.token_ids == expected
            assert sum(len(item.token_ids) for item in items if isinstance(item, Piece)) == 24
            assert result.metrics.ttft_ms is not None and 0 < result.metrics.ttft_ms <= result.metrics.wall_ms
            assert result.metrics.tau is not None and 1 <= result.metrics.tau <= 7
        stop = result.text[6:9]
        stopped = opened.generate(PROMPT, max_new_tokens=24, stop=[stop])
        assert stopped.finish_reason == "stop" and stopped.text == result.text[: result.text.index(stop)]
        with pytest.raises(EdgespecError, match="target's distribution"):
            opened.generate(PROMPT, temperature=0.5)
        with pytest.raises(EdgespecError, match="openvino-genai reads every prompt anew on an NPU"):
            opened.generate(PROMPT, reuse_prefix=True)
        kept = opened.generate(PROMPT, max_new_tokens=4, reuse_prefix="where possible")  # as the server asks
        assert kept.token_ids == expected[:4]


def test_a_gamma_beyond_upstreams_window_is_compiled_in(self_draft_pair: Pair, tmp_path: Path) -> None:
    """Upstream's window is 16 tokens unless the target's generation_config.json says more; a self-draft, accepted
    whole, would run into it ("prompt length is greater than ...")."""
    with SpecPipeline(
        self_draft_pair, device="NPU", mode="draft", gamma=12, npu_lengths=SHORT, cache_dir=tmp_path, settings=EXACT
    ) as opened:
        result = opened.generate(PROMPT, max_new_tokens=60)
        assert len(result.token_ids) == 60 and (result.metrics.tau or 0) > 8
    written = next(tmp_path.glob("npu/*/target/generation_config.json"))
    assert json.loads(written.read_bytes())["num_assistant_tokens"] == 12
    original = json.loads((self_draft_pair.target / "generation_config.json").read_bytes())
    assert "num_assistant_tokens" not in original, "the pair itself is not touched"


def test_pairs_that_share_a_target_do_not_share_a_folder(
    tiny_pair: Path, self_draft_pair: Pair, tmp_path: Path
) -> None:
    roots = {npu.with_gamma(pair, 4, tmp_path).root for pair in (Pair.open(tiny_pair), self_draft_pair)}
    assert len(roots) == 2 and {root.parent for root in roots} == {tmp_path}


def test_a_request_beyond_the_lengths_is_compiled_for(tiny_pair: Path, pipeline: SpecPipeline) -> None:
    long = "def add(a, b):\n" * 8
    expected = pipeline.generate(long, max_new_tokens=40).token_ids
    with SpecPipeline(tiny_pair, device="NPU", npu_lengths=SHORT) as opened:
        assert opened._the_engines.opened[0].lengths == SHORT
        assert opened.generate(long, max_new_tokens=40).token_ids == expected
        grown = opened._the_engines.opened[0].lengths
        assert grown is not None and grown.prompt >= len(opened._the_words().encode(long)) and grown.prompt % 64 == 0
        opened.generate(PROMPT, max_new_tokens=4)
        assert opened._the_engines.opened[0].lengths == grown, "what fits is not compiled again"


def test_the_native_engine_is_refused_there(tiny_pair: Path) -> None:
    with pytest.raises(EdgespecError, match="an NPU runs models of fixed shape only"):
        SpecPipeline(tiny_pair, device="NPU", mode="native-draft")
