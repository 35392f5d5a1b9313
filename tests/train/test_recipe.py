"""A whole recipe in miniature: every stage is real, only small."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path

import numpy as np
import pytest
import yaml
from transformers import AutoTokenizer

from edgespec.errors import EdgespecError
from edgespec.export import export_pair
from edgespec.train import BUNDLED_RECIPE, corpus, evaluate_pair, model_card, read_recipe, run_recipe
from edgespec.train.recipe import Recipe, RecipeRun, stage_facts
from edgespec.train.ship import index_training_text
from edgespec.training_index import INDEX_FILE, TrainingIndex

TINY = {
    "seed": 0,
    "corpus": {"heldout_share": 0.2, "sources": {"made": 200_000}},
    "tokenizer": {"vocab_size": 320},
    "target": {
        "hidden": 32, "ffn": 64, "heads": 2, "kv_heads": 1, "context": 512,
        "phases": [
            {"layers": 1, "steps": 4, "batch": 2, "warmup": 0.1, "decay": 0.0},
            {"layers": 2, "steps": 3, "batch": 2, "warmup": 0.1, "decay": 0.5, "peak": 0.5},
        ],
    },
    "draft": {
        "hidden": 16, "ffn": 32, "heads": 1, "kv_heads": 1, "context": 512,
        "phases": [{"layers": 1, "steps": 3, "batch": 2, "warmup": 0.1, "decay": 0.5}],
    },
    "generate": {
        "prompts": 6, "heldout_prompts": 2, "shortest": 4, "longest": 8, "max_new_tokens": 8,
        "temperatures": [0.0, 0.8],
    },
    "align": {"steps": 3, "batch": 2, "top_k": 4, "warmup": 0.1, "decay": 0.5},
}  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    return read_recipe(path)


@pytest.fixture(scope="module")
def work(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe's work folder after a whole run over made-up source files."""
    root = tmp_path_factory.mktemp("source")
    for index in range(30):
        functions = (f"def f{index}_{i}(value):\n    total = value + {i}\n    return total\n" for i in range(24))
        (root / f"m{index}.py").write_text("\n".join(functions), encoding="utf-8")
    work = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "source_roots", lambda _: {"made": root})
        made = run_recipe(recipe, work, _export_target)
    assert made == {role: str(work / f"shipped-{role}") for role in ("target", "draft")}
    return work


def _export_target(checkpoint: Path, folder: Path) -> Path:
    return export_pair(str(checkpoint), None, folder).target


def test_every_stage_left_its_record(work: Path) -> None:
    stages = {path.parent.name for path in work.glob("*/stage.json")}
    assert stages == {
        *("corpus", "target-1", "target-2", "draft-1", "answers", "draft", "shipped-target", "shipped-draft")
    }
    assert stage_facts(work / "target-1")["tokens"] == 4 * 2 * 512
    assert stage_facts(work / "answers")["train"]["answers"] == 6
    answers = [json.loads(line) for line in (work / "answers" / "train.jsonl").read_text().splitlines()]
    assert {answer["temperature"] for answer in answers} == {0.0, 0.8}
    assert all(4 <= len(answer["prompt"]) <= 8 and 1 <= len(answer["answer"]) <= 8 for answer in answers)


def test_the_draft_is_shipped_with_an_index_of_its_training_text(work: Path) -> None:
    index = TrainingIndex.read(work / "shipped-draft" / INDEX_FILE)
    train, held = ((work / "corpus" / f"{name}.sha256").read_text().splitlines() for name in ("train", "heldout"))
    tokenizer = AutoTokenizer.from_pretrained(work / "corpus" / "tokenizer")
    answers = [json.loads(line) for line in (work / "answers" / "train.jsonl").read_text().splitlines()]
    assert index.texts == len(train) + len(answers) and held
    with np.load(work / "corpus" / "train.npz") as documents:
        for ids, line in zip((documents[name] for name in documents.files), train, strict=True):
            text = tokenizer.decode(ids)
            assert hashlib.sha256(text.encode()).hexdigest() == line.split()[0], "what is indexed is not what was read"
            assert index.overlap(text) > 0.8
    assert index.overlap("Nothing of this sentence was ever shown to the draft, however long one makes it.") == 0.0
    assert index.sources.startswith("made; ") and not (work / "shipped-target" / INDEX_FILE).exists()
    assert stage_facts(work / "shipped-draft")["indexed_texts"] == index.texts


def test_answers_of_the_alignment_set_are_indexed_too(work: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(work / "corpus" / "tokenizer")
    said = "The target once said this at length, and so the draft has learned to say it as well."
    answer = {"prompt": tokenizer("# ")["input_ids"], "answer": tokenizer(said)["input_ids"], "temperature": 0.0}
    (tmp_path / "train.jsonl").write_text(json.dumps(answer) + "\n", encoding="utf-8")
    without = index_training_text(work / "corpus", work / "answers", ["stdlib", "numpy"])
    assert without.overlap(f"# {said}") == 0.0
    assert index_training_text(work / "corpus", tmp_path, ["stdlib", "numpy"]).overlap(f"# {said}") > 0.5
    assert f"stdlib {platform.python_version()}, numpy {np.__version__}" in without.sources


def test_a_second_run_makes_nothing_again(recipe: Recipe, work: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    run_recipe(recipe, work, _export_target)
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()} == before


def test_another_recipe_in_the_same_folder_is_refused(recipe: Recipe, work: Path) -> None:
    other = recipe.model_copy(update={"seed": 1})
    with pytest.raises(EdgespecError, match="was made from another recipe"):
        RecipeRun(other, work, _export_target).all()


def test_a_folder_that_is_no_stage_is_left_alone(recipe: Recipe, tmp_path: Path) -> None:
    mine = tmp_path / "corpus" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("precious")
    with pytest.raises(EdgespecError, match="exists and is no stage of a recipe"):
        RecipeRun(recipe, tmp_path, _export_target).all()
    assert mine.read_text() == "precious"


def test_the_result_is_a_pair_with_a_card(recipe: Recipe, work: Path, tmp_path: Path) -> None:
    pair = export_pair(work / "shipped-target", work / "shipped-draft", tmp_path / "pair")
    figures = evaluate_pair(pair, [("code", "def f1_2(value):"), ("code", "def f3")], gamma=2, max_new_tokens=16)
    assert 0 <= figures["acceptance_rate"] <= 1 and 1 <= figures["block_efficiency"] <= 3
    assert figures["by_task"]["code"]["alpha"] == figures["alpha"]
    card = model_card(recipe, work, {"made": "1.0"}, figures)
    assert f"`{INDEX_FILE}` beside the draft" in card
    assert "| target | 2 | 2 |" in card and f"acceptance rate {figures['acceptance_rate']:.3f}" in card


def test_the_bundled_recipe_reads() -> None:
    recipe = read_recipe(BUNDLED_RECIPE)
    assert recipe.target.phases[-1].layers >= 14 and recipe.minutes() > 60


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"seed": "x"}, "seed: Input should be a valid integer"),
        ({"align": {**TINY["align"], "minutes": 1}}, "align: .*give either minutes or steps"),  # type: ignore[dict-item]
        ({"tokenizer": {"vocab_size": 3}}, r"tokenizer\.vocab_size: Input should be greater than 256"),
    ],
)
def test_a_wrong_recipe_is_a_sentence(change: dict[str, object], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(TINY | change), encoding="utf-8")
    with pytest.raises(EdgespecError, match=sentence):
        read_recipe(path)


def test_a_missing_recipe_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml")
