"""A GGUF target in SpecPipeline: openvino-genai alone reads it, and little is known of it beforehand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from edgespec import EdgespecError, Pair, SpecPipeline
from edgespec.export.adopt import adopt_pair
from edgespec.runtime import memory, npu
from edgespec.runtime.modes import GENAI_PLAIN, Way
from edgespec.settings import EXACT

PROMPT = "def add(a, b):\n    return"


@pytest.fixture(scope="module")
def gguf_pair(tmp_path_factory: pytest.TempPathFactory, tiny_pair: Path, tiny_target_checkpoint: Path) -> Pair:
    """The tiny pair with its target as a .gguf file."""
    path = Path(__file__).parents[1] / "export" / "tiny_gguf.py"
    spec = importlib.util.spec_from_file_location("tiny_gguf_of_the_runtime", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("gguf")
    file = module.write_gguf(tiny_target_checkpoint, folder / "tiny.gguf")
    adopted: Pair = adopt_pair(file, tiny_pair / "draft", folder / "pair")
    return adopted


def test_auto_answers_with_openvino_genai(gguf_pair: Pair, pipeline: SpecPipeline) -> None:
    expected = pipeline.generate(PROMPT, max_new_tokens=12)
    with SpecPipeline(gguf_pair, settings=EXACT) as opened:
        first = opened.generate(PROMPT, max_new_tokens=12)
        assert (first.metrics.mode, first.metrics.engine) == ("plain", "genai")
        assert "the first answer is a plain one, to measure it" in first.metrics.why
        assert opened.choose() == ("draft", "the target is a GGUF file, and the pair has a draft")
        second = opened.generate(PROMPT, max_new_tokens=12)
        assert "draft" in (second.metrics.mode + second.metrics.why)  # the clock may send it back in mid-answer
        for result in (first, second):
            assert (result.token_ids, result.text) == (expected.token_ids, expected.text)
        assert opened.generate(PROMPT, max_new_tokens=4, temperature=0.8).metrics.mode == "plain"
        with pytest.raises(EdgespecError, match="the target is a GGUF file, which the native engine does not read"):
            opened.generate(PROMPT, regex="a+")
    with pytest.raises(EdgespecError, match="mode 'native-copy' cannot be used: the target is a GGUF file"):
        SpecPipeline(gguf_pair, mode="native-copy")


def test_its_weights_are_what_is_known_of_its_memory(gguf_pair: Pair) -> None:
    plain = memory.estimate(gguf_pair, GENAI_PLAIN)
    assert plain.target_bytes == (gguf_pair.target / "model.gguf").stat().st_size
    assert (plain.cache_bytes, plain.draft_bytes) == (0, 0)
    assert memory.estimate(gguf_pair, Way("genai", "draft")).cache_bytes > 0, "the draft's"
    with pytest.raises(EdgespecError, match="close other programs, or take a smaller model"):
        memory.require_room(gguf_pair, GENAI_PLAIN, context=64, free_bytes=1)


def test_a_draft_on_an_npu_is_refused(gguf_pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="is a GGUF file, and a draft on an NPU needs an OpenVINO model"):
        npu.with_gamma(gguf_pair, 4, tmp_path)
