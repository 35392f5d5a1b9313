"""The one promise of a twin: through export, compression and openvino-genai, the target accepts what was asked for.

Null of the statistical test: each examined proposal is accepted with probability alpha, independently. Exact two-sided
binomial tests, at 1e-4 for each of the 12 cases (6 alphas, 2 weight formats) and at 1e-5 for each of their 36
positions: a correct build fails somewhere with a probability below 1.6e-3. The seeds are fixed, so it passes always or
never. Beside it stands what needs no statistics: every step must emit exactly what the two cycles say.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from edgespec.engine.genai import open_engine
from edgespec.engine.step import Step, acceptance_by_position
from edgespec.export import export_pair
from edgespec.ir import read_constants
from edgespec.pair import Pair, read_manifest, record_files, write_manifest
from edgespec.plan import apart_prompts, make_twins, measure_alpha
from edgespec.plan.cycle import Cycle, draft_cycle, target_cycle
from edgespec.plan.shards import open_tensor
from edgespec.plan.tokenizer import synthetic_vocabulary
from edgespec.quantize import quantize_pair
from edgespec.twins import KEY, label_sources, twin_label

VOCAB, SEED, GAMMA = 2048, 11, 3
PROMPTS, TOKENS = 4, 110
ALPHAS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
FORMATS = ("int8_sym", "int4")
SIZES = {
    "model_type": "llama",
    "vocab_size": VOCAB,
    "head_dim": 32,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
}
TARGET = SIZES | {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "tie_word_embeddings": False,
}
DRAFT = SIZES | {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "tie_word_embeddings": True,
}


def cycles(alpha: float) -> tuple[Cycle, Cycle]:
    target = target_cycle(synthetic_vocabulary(VOCAB).live, VOCAB, SEED)
    return target, draft_cycle(target, alpha, SEED)


def expected_steps(alpha: float, prompt: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """What speculation must emit, step by step, if the two models are the two maps."""
    target, draft = ({t: int(f) for t, f in enumerate(c.following(np.arange(VOCAB)))} for c in cycles(alpha))
    steps, last, left = [(target[prompt[-1]],)], target[prompt[-1]], count - 1
    while left:
        tokens, guess = [], last
        for _ in range(min(GAMMA, left - 1)):
            guess = draft[guess]
            if guess != target[tokens[-1] if tokens else last]:
                break
            tokens.append(guess)
        tokens.append(target[tokens[-1] if tokens else last])
        steps.append(tuple(tokens))
        last, left = tokens[-1], left - len(tokens)
    return steps


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fp16 pair at alpha 0.5: an untied target and a tied draft."""
    folder = tmp_path_factory.mktemp("twins")
    target, draft = make_twins(TARGET, DRAFT, 0.5, folder / "hf", seed=SEED)
    return label_sources(export_pair(target, draft, folder / "pair")).root


@pytest.fixture(scope="module", params=FORMATS)
def compressed_target(request: pytest.FixtureRequest, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("target") / request.param
    return quantize_pair(exported, out, target=request.param, draft="none")[0].root


def put_draft(root: Path, alpha: float, folder: Path) -> None:
    """Give the pair at `root` the draft of another alpha. Drafts of two alphas differ in their embedding alone, so that
    is put into the exported draft: an export takes seconds."""
    _, draft = make_twins(TARGET, DRAFT, alpha, folder / "hf", seed=SEED)
    index = json.loads((draft / "model.safetensors.index.json").read_bytes())["weight_map"]
    name = "model.embed_tokens.weight"
    rows = open_tensor(draft / index[name], name)
    ir = root / "draft" / "openvino_model.xml"
    (place,) = [found for found in read_constants(ir) if found.is_weight and found.shape == rows.shape]
    with ir.with_suffix(".bin").open("r+b") as file:
        file.seek(place.offset)
        assert (file.read(place.bytes) == rows.tobytes()) == (alpha == 0.5)
        file.seek(place.offset)
        file.write(rows.tobytes())
    manifest = read_manifest(root)
    assert manifest.draft is not None
    record = manifest.draft.model_copy(update={"files": record_files(root / "draft")})
    write_manifest(root, manifest.model_copy(update={"draft": record}))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_measured_acceptance_is_the_one_asked_for(compressed_target: Path, tmp_path: Path, alpha: float) -> None:
    root = Path(shutil.copytree(compressed_target, tmp_path / "pair"))
    put_draft(root, alpha, tmp_path)
    pair, _ = quantize_pair(root, tmp_path / "compressed", target="none", draft=compressed_target.name)
    engine = open_engine(pair, device="CPU", mode="draft")
    answers = []
    for text in apart_prompts(pair.target, PROMPTS, TOKENS, seed=SEED, words=4):
        ids = engine.encode(text)
        generation = engine.generate(ids, TOKENS, gamma=GAMMA)
        assert generation.finish_reason == "length"
        assert [step.tokens for step in generation.steps] == expected_steps(alpha, ids, TOKENS)
        answers.append(generation.steps)
    measured = measure_alpha(answers, alpha)
    assert measured is not None and measured.examined > 300
    assert measured.pvalue > 1e-4, measured
    steps = [Step(()), *(step for answer in answers for step in answer[1:])]
    for position, rate in enumerate(acceptance_by_position(steps)):
        reached = sum((step.accepted or 0) >= position and (step.proposed or 0) > position for step in steps)
        assert rate is not None and binomtest(round(rate * reached), reached, alpha).pvalue > 1e-5, (position, rate)


def test_a_twin_is_labelled_wherever_it_shows(exported: Path, tmp_path: Path) -> None:
    compressed, _ = quantize_pair(exported, tmp_path / "compressed", target="int8", draft="none")
    reopened = Pair.open(compressed.root)
    assert reopened.manifest.draft is not None
    assert reopened.manifest.target.source.id == "twin:2x128 alpha=0.50"
    assert reopened.manifest.draft.source.id == "twin:1x64 alpha=0.50"
    assert twin_label(reopened) == "twin:2x128 + twin:1x64 alpha=0.50"


def test_a_model_without_the_mark_is_no_twin(exported: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(exported, tmp_path / "pair"))
    for role, label in (("draft", "twin:2x128 + a model"), ("target", None)):
        path = root / role / "config.json"
        path.write_text(json.dumps(json.loads(path.read_bytes()) | {KEY: None}), encoding="utf-8")
        assert twin_label(Pair.open(exported)) == "twin:2x128 + twin:1x64 alpha=0.50"
        assert twin_label(Pair(root, read_manifest(root))) == label


def test_alpha_counts_the_first_wrong_proposal_of_a_step_and_none_behind_it() -> None:
    prefill, cut = Step((9,), 0, 0), Step((9, 9), None, None)
    steps = [prefill, Step((9, 9, 9), 3, 2), Step((9,), 3, 0), Step((9, 9, 9, 9), 3, 3), cut]
    measured = measure_alpha([steps, [prefill, Step((9, 9), 1, 1)]], 0.6)
    assert measured is not None
    assert (measured.accepted, measured.examined) == (2 + 0 + 3 + 1, 3 + 1 + 3 + 1)
    assert measured.alpha == 0.75 and measured.interval[0] < 0.6 < measured.interval[1] and 0.4 < measured.pvalue < 0.6
    assert measure_alpha([[prefill, Step((9,), 0, 0)]], 0.6) is None
