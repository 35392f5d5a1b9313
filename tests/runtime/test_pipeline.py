"""SpecPipeline as an app uses it: answers, streams, modes, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from gating import Gate

from edgespec import EdgespecError, Pair, SpecPipeline
from edgespec.pair import write_manifest
from edgespec.runtime import Piece, Result, modes
from edgespec.runtime.engines import Engines
from edgespec.settings import EXACT

PROMPT = "def add(a, b):\n    return"


@pytest.fixture(scope="module")
def alone(tiny_pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pair without its draft."""
    import shutil

    root = tmp_path_factory.mktemp("alone") / "pair"
    shutil.copytree(tiny_pair / "target", root / "target")
    write_manifest(root, Pair.open(tiny_pair).manifest.model_copy(update={"draft": None}))
    return root


def test_generate_gives_text_tokens_and_figures(pipeline: SpecPipeline) -> None:
    result = pipeline.generate(PROMPT, max_new_tokens=12)
    assert isinstance(result, Result) and result.text
    assert result.finish_reason == "length" and len(result.token_ids) == 12
    metrics = result.metrics
    assert (metrics.mode, metrics.engine, metrics.device) == ("native-hybrid", "native", "CPU")
    assert "the pair has a draft" in metrics.why
    assert metrics.ttft_ms is not None and 0 < metrics.ttft_ms <= metrics.wall_ms
    assert metrics.tokens_per_second == pytest.approx(12e3 / metrics.wall_ms)
    assert metrics.tau == metrics.block_efficiency is not None and metrics.tau >= 1
    assert metrics.prompt_tokens == len(pipeline._the_words().encode(PROMPT))


def test_streamed_pieces_are_the_generated_text(pipeline: SpecPipeline) -> None:
    for prompt in (PROMPT, "naïve 🙂", "日本"):
        whole = pipeline.generate(prompt, max_new_tokens=60)
        stream = pipeline.stream(prompt, max_new_tokens=60)
        *items, result = stream
        pieces = [item for item in items if isinstance(item, Piece)]
        assert isinstance(result, Result) and result is stream.result
        assert result.token_ids == whole.token_ids and len(pieces) == len(items)
        assert "".join(piece.text for piece in pieces) == whole.text
        assert [token for piece in pieces for token in piece.token_ids] == whole.token_ids
        assert sum(piece.drafted for piece in pieces) == result.metrics.draft_tokens


@pytest.mark.parametrize("mode", [name for name in modes.names() if name not in ("auto", "eagle3")])
def test_every_mode_is_obeyed_and_says_the_same(tiny_pair: Path, pipeline: SpecPipeline, mode: str) -> None:
    expected = pipeline.generate(PROMPT, max_new_tokens=20).token_ids
    with SpecPipeline(tiny_pair, mode=mode, settings=EXACT) as explicit:
        result = explicit.generate(PROMPT, max_new_tokens=20)
    assert (result.metrics.mode, result.metrics.why) == (mode, "asked for")
    assert result.token_ids == expected


def test_a_head_is_asked_for_where_there_is_none(tiny_pair: Path) -> None:
    with pytest.raises(EdgespecError, match="mode 'eagle3' cannot be used: the pair's draft is no EAGLE-3 head"):
        SpecPipeline(tiny_pair, mode="eagle3")


def test_pieces_know_which_tokens_the_draft_gave(self_draft_pair: Pair) -> None:
    """A self-draft is accepted whole: of every gamma+1 tokens the last is the target's own."""
    for mode in ("native-draft", "draft"):
        with SpecPipeline(self_draft_pair, mode=mode, gamma=3, settings=EXACT) as opened:
            *items, result = opened.stream(PROMPT, max_new_tokens=13)
        flags = [flag for item in items if isinstance(item, Piece) for flag in item.from_draft]
        assert flags == [False] + [True, True, True, False] * 3
        assert isinstance(result, Result) and result.metrics.draft_tokens == 9
        assert result.metrics.acceptance_rate == 1 and result.metrics.tau == 4


def test_sampling_in_auto_goes_to_exact_acceptance(pipeline: SpecPipeline) -> None:
    metrics = pipeline.generate(PROMPT, max_new_tokens=10, temperature=0.8).metrics
    assert metrics.engine == "native" and "keeps the target's distribution" in metrics.why


def test_a_seed_repeats_an_answer_in_a_mode_that_no_clock_decides(tiny_pair: Path) -> None:
    with SpecPipeline(tiny_pair, mode="native-draft", gamma=3, settings=EXACT) as opened:
        runs = [opened.generate(PROMPT, max_new_tokens=10, temperature=0.8, seed=seed) for seed in (1, 1, 2)]
    assert runs[0].token_ids == runs[1].token_ids != runs[2].token_ids


def test_genais_draft_never_samples(tiny_pair: Path) -> None:
    with SpecPipeline(tiny_pair, mode="draft") as explicit:
        with pytest.raises(EdgespecError, match="does not follow the target's distribution"):
            explicit.generate(PROMPT, temperature=0.8)
        assert explicit.generate(PROMPT, max_new_tokens=2).token_ids, "it goes on after a refusal"


def test_without_a_draft_auto_copies_and_draft_modes_are_refused(alone: Path) -> None:
    with SpecPipeline(alone, settings=EXACT) as opened:
        assert opened.choose()[0] == opened.choose(temperature=1.0)[0] == "native-adaptive-copy"
        assert "the pair has no draft" in opened.choose()[1]
        assert opened.generate(PROMPT, max_new_tokens=4).metrics.mode == "native-adaptive-copy"
    for mode in ("draft", "native-draft", "native-hybrid"):
        with pytest.raises(EdgespecError, match=f"mode '{mode}' cannot be used: the pair has no draft"):
            SpecPipeline(alone, mode=mode)


def test_a_draft_device_without_a_draft_is_refused(alone: Path) -> None:
    with pytest.raises(EdgespecError, match=r"the draft device 'CPU' was given, and the pair .* has no draft"):
        SpecPipeline(alone, draft_device="CPU")


def test_stop_strings_end_the_answer_and_do_not_show(pipeline: SpecPipeline) -> None:
    text = pipeline.generate(PROMPT, max_new_tokens=40).text
    *items, result = pipeline.stream(PROMPT, max_new_tokens=40, stop=[text[9:12]])
    assert isinstance(result, Result) and result.finish_reason == "stop"
    assert result.text == text[: text.index(text[9:12])] == "".join(i.text for i in items if isinstance(i, Piece))


def test_a_json_schema_is_followed(pipeline: SpecPipeline) -> None:
    schema = {"enum": ["yes", "no"]}
    result = pipeline.generate(PROMPT, max_new_tokens=30, json_schema=schema)
    assert result.text in ('"yes"', '"no"') and result.finish_reason == "stop"
    assert pipeline.generate(PROMPT, max_new_tokens=30, regex="[ab]{3}").text.strip("ab") == ""
    with pytest.raises(EdgespecError, match="exclude one another"):
        pipeline.generate(PROMPT, json_schema=schema, regex="a")
    with pytest.raises(EdgespecError, match="this is no JSON schema"):
        pipeline.generate(PROMPT, json_schema="{")


def test_what_genai_cannot_is_refused_in_an_explicit_mode(tiny_pair: Path) -> None:
    with SpecPipeline(tiny_pair, mode="plain") as plain:
        with pytest.raises(EdgespecError, match="a grammar is kept by the native engine alone"):
            plain.generate(PROMPT, regex="a+")
        with pytest.raises(EdgespecError, match="openvino-genai has no logit_bias"):
            plain.generate(PROMPT, logit_bias={3: 1.0})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mode": "warp"}, "there is no mode 'warp'; choose auto, plain, draft"),
        ({"gamma": 3}, "mode 'auto' chooses gamma and threshold itself"),
        ({"mode": "plain", "gamma": 3}, "proposes nothing, so it takes no gamma"),
        ({"mode": "native-plain", "gamma": 3}, "proposes nothing, so it takes no gamma"),
        ({"mode": "native-draft", "threshold": 0.4}, "a threshold is for mode 'draft'"),
        ({"mode": "draft", "threshold": 0.4, "gamma": 2}, "instead of a gamma"),
        ({"mode": "plain", "device": "TPU"}, "there is no device 'TPU'"),
        ({"device": "TPU"}, "there is no device 'TPU'"),
        ({"busy": "perhaps"}, "busy must be 'queue' or 'refuse', not 'perhaps'"),
        ({"mode": "plain", "draft_device": "CPU"}, "a draft device was given for mode 'plain', which uses no draft"),
        ({"mode": "native-copy", "draft_device": "CPU"}, "a draft device was given for mode 'native-copy'"),
        ({"context": 1}, "context must be at least 2 tokens"),
        ({"context": 5000}, "context=5000 was asked for and this model's is 512"),
    ],
)
def test_wrong_wishes_are_refused_at_once(tiny_pair: Path, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        SpecPipeline(tiny_pair, **options)  # type: ignore[arg-type]


def test_wrong_options_are_refused_by_the_call_itself(pipeline: SpecPipeline) -> None:
    with pytest.raises(EdgespecError, match="max_new_tokens must be at least 1"):
        pipeline.stream(PROMPT, max_new_tokens=0)
    with pytest.raises(EdgespecError, match="temperature must lie between"):
        pipeline.stream(PROMPT, temperature=-1)
    with pytest.raises(EdgespecError, match="there is no option beams; choose from max_new_tokens"):
        pipeline.generate(PROMPT, beams=3)  # type: ignore[call-arg]


def test_an_empty_prompt_and_one_beyond_the_context(pipeline: SpecPipeline, tiny_pair: Path) -> None:
    with pytest.raises(EdgespecError, match="the prompt is empty"):
        pipeline.generate("")
    with pytest.raises(EdgespecError, match="the prompt is empty"):
        list(pipeline.stream(""))
    long = "def add(a, b):\n" * 200
    with pytest.raises(EdgespecError, match=r"the prompt has [\d,]+ tokens and the context holds 512"):
        pipeline.generate(long)
    with SpecPipeline(tiny_pair, context=16) as short:
        prompt = "def add"
        result = short.generate(prompt, max_new_tokens=100)
        assert result.metrics.prompt_tokens + len(result.token_ids) == 16 and result.finish_reason == "length"


def test_a_closed_pipeline_says_so(tiny_pair: Path, gate: Gate) -> None:
    opened = SpecPipeline(tiny_pair)
    stream = opened.stream(PROMPT, max_new_tokens=400)
    assert gate.reached.wait(60)
    opened.close()
    opened.close()
    *_, result = stream
    assert isinstance(result, Result) and result.finish_reason == "cancelled", "what was running has its result"
    for call in (opened.generate, opened.stream):
        with pytest.raises(EdgespecError, match="this pipeline is closed; make a new SpecPipeline"):
            call(PROMPT)
    with pytest.raises(EdgespecError, match="this pipeline is closed"):
        opened.chat(raw=True).ask("x")
    for question in (opened.explain, opened.choose, opened.wait_until_ready):
        with pytest.raises(EdgespecError, match="this pipeline is closed"):
            question()


def test_auto_passes_over_what_cannot_be_loaded(tiny_pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Engines._load

    def no_draft(self: Engines, way: modes.Way, *rest: object) -> object:
        if way.drafts:
            raise EdgespecError("the driver does not like it")
        return real(self, way, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Engines, "_load", no_draft)
    with SpecPipeline(tiny_pair) as fallen:
        metrics = fallen.generate(PROMPT, max_new_tokens=4).metrics
        assert metrics.mode == "native-adaptive-copy"
        assert "mode 'native-hybrid' could not be loaded: the driver does not like it" in metrics.why
        assert "passed over: native-hybrid on CPU: it could not be loaded: the driver does not like it" in str(
            fallen.explain()
        )
    with pytest.raises(EdgespecError, match="the driver does not like it"):
        SpecPipeline(tiny_pair, mode="native-draft")


def test_explain_says_how_it_decides(pipeline: SpecPipeline) -> None:
    pipeline.generate(PROMPT, max_new_tokens=4)
    text = str(pipeline.explain())
    for part in (
        "device: CPU (asked for)",
        "profile: the pair has no tuned profile",
        "settings: DYNAMIC_QUANTIZATION_GROUP_SIZE=0",
        "greedy: mode 'native-hybrid'",
        "sampling: mode 'native-hybrid'",
        "loaded: native-hybrid on CPU, about",
        "governor of native-hybrid: speculation is",
        "compiled models are kept in",
    ):
        assert part in text, part


def test_a_kept_prefix_changes_nothing_and_is_not_read_again(
    pipeline: SpecPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "def add(a, b):\n    return a + b\n" * 4
    fresh = pipeline.generate(long + "def", max_new_tokens=8).token_ids
    pipeline.generate(long, max_new_tokens=2, reuse_prefix=True)
    sequence = pipeline._the_engines.opened[0].engine._sequence  # type: ignore[union-attr]
    fed: list[int] = []
    feed = type(sequence).feed

    def count(self: object, ids: list[int], *rest: object) -> object:
        if self is sequence:
            fed.append(len(ids))
        return feed(self, ids, *rest)

    monkeypatch.setattr(type(sequence), "feed", count)
    assert pipeline.generate(long + "def", max_new_tokens=8, reuse_prefix=True).token_ids == fresh
    assert fed[0] < 8, "the shared part of the prompt lay in the cache"


def test_importing_and_running_leaves_environment_and_logging_alone(tiny_pair: Path) -> None:
    code = (
        "import os, logging, warnings, sys\n"
        "before = dict(os.environ), logging.root.level, list(logging.root.handlers), list(warnings.filters)\n"
        "import edgespec\n"
        "with edgespec.SpecPipeline(sys.argv[1], cache_dir=None) as p: p.generate('def', max_new_tokens=2)\n"
        "after = dict(os.environ), logging.root.level, list(logging.root.handlers), list(warnings.filters)\n"
        "assert before[:3] == after[:3], 'environment or logging changed'\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_pair)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", "an embedded library does not print"


def test_a_pipeline_that_nobody_closed_ends_with_the_program(tiny_pair: Path) -> None:
    code = (
        "import sys, edgespec\n"
        "p = edgespec.SpecPipeline(sys.argv[1], cache_dir=None)\n"
        "s = p.stream('def', max_new_tokens=400)\n"
        "next(s)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_pair)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
