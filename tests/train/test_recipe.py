"""A whole recipe in miniature: every stage is real, only small."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer

from edgespec.errors import EdgespecError
from edgespec.export import adopt_pair, export_pair
from edgespec.pair import Pair
from edgespec.train import (
    BUNDLED_RECIPE,
    HeldOut,
    Pipeline,
    Tools,
    corpus,
    model_card,
    plan_recipe,
    read_recipe,
    total,
    write_page,
)
from edgespec.train.from_nothing import corpus_texts
from edgespec.train.generate import read_answers
from edgespec.train.metrics import read_curve
from edgespec.train.models import load_model
from edgespec.train.packing import Held
from edgespec.train.planning import Rates, measured_rates
from edgespec.train.recipe import Recipe
from edgespec.train.ship import index_training_text
from edgespec.train.stages import stage_facts
from edgespec.training_index import INDEX_FILE, TrainingIndex

TINY: dict[str, Any] = {
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
    "init": {"shape": "1x32", "head": "tied"},
    "pretrain": {"data": [{"source": "corpus"}], "tokens": 2048, "batch": 4, "length": 128, "precision": "f32"},
    "continue": {"data": [{"source": "corpus"}], "tokens": 1024, "batch": 4, "length": 128, "precision": "f32"},
    "generate": {
        "prompts": "corpus", "count": 24, "shortest": 4, "longest": 8, "max_new_tokens": 8,
        "temperatures": [0.0, 0.8], "top_k_logits": 4, "shard": 10,
    },
    "align": {
        "loss": "0.5*ce + 0.5*kl", "tokens": 1024, "batch": 8, "length": 32, "share": 0.25, "heldout": 0.3,
        "precision": "f32", "evaluate_every": 2,
    },
    "evaluate": {"prompts": "mine", "gamma": 2, "max_new_tokens": 12, "in_training": 1},
    "ship": {},
}  # fmt: skip
PROMPTS = [HeldOut("code", "def f1_2(value):"), HeldOut("other", "def f3")]
STAGES = [
    *("corpus", "target-1", "target-2", "init", "pretrain", "continue", "exported-target", "answers"),
    *("draft", "evaluate", "shipped-draft", "shipped-target"),
]


def _export(checkpoint: str, folder: Path) -> Path:
    return export_pair(checkpoint, None, folder).target


def _pair(target: Path, draft: Path, folder: Path) -> Pair:
    return adopt_pair(target, draft, folder)


TOOLS = Tools(_export, _pair, lambda name: PROMPTS)


def _recipe(folder: Path, change: dict[str, Any] | None = None) -> Recipe:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, **(change or {})}), encoding="utf-8")
    return read_recipe(path)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Made-up source files, as the corpus of every recipe here."""
    root = tmp_path_factory.mktemp("source")
    for index in range(30):
        functions = (f"def f{index}_{i}(value):\n    total = value + {i}\n    return total\n" for i in range(24))
        (root / f"m{index}.py").write_text("\n".join(functions), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "source_roots", lambda _: {"made": root})
        yield root


@pytest.fixture(scope="module")
def work(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe's work folder after a whole run."""
    work = tmp_path_factory.mktemp("work")
    folders = Pipeline(_recipe(tmp_path_factory.mktemp("recipe")), work, TOOLS).run()
    assert folders == {name: work / name for name in STAGES}
    return work


def test_every_stage_left_its_record(work: Path) -> None:
    assert stage_facts(work / "target-1")["tokens"] == 4 * 2 * 512
    assert stage_facts(work / "pretrain")["tokens"] == 2048 and stage_facts(work / "continue")["tokens"] == 1024
    answers = list(read_answers(work / "answers" / "set"))
    assert stage_facts(work / "answers")["answers"] == len(answers) > 12
    assert {answer.temperature for answer in answers} == {0.0, 0.8}
    assert all(4 <= len(answer.prompt_ids) <= 8 and 1 <= len(answer.answer_ids) <= 8 for answer in answers)
    assert not list(work.glob("*/making.json"))


def test_the_draft_was_tried_in_service_on_the_way(work: Path) -> None:
    curve = read_curve(work / "draft", "acceptance_rate_t0.6")
    assert [step for step, _ in curve] == [2, 4] and all(0 <= value <= 1 for _, value in curve)
    assert len(read_curve(work / "draft", "overlap")) == 4


def test_corpus_and_pretraining_hold_out_by_the_same_hash(work: Path) -> None:
    """So what pretraining holds out of a corpus lies above the share that the corpus has held out already."""
    train = corpus_texts(work / "corpus")
    assert not any(Held(0.2).out(text) for text in train) and all(Held(1.0).out(text) for text in train)


def test_every_trained_draft_is_evaluated(work: Path) -> None:
    drafts = stage_facts(work / "evaluate")["drafts"]
    assert list(drafts) == ["pretrain", "continue", "draft"]
    for documents in drafts.values():
        assert [document["temperature"] for document in documents] == [0.6, 0.0]
        for document in documents:
            assert 0 <= document["acceptance_rate"] <= 1 and set(document["by_task"]) == {"code", "other"}
    assert [path.name for path in (work / "evaluate").iterdir()] == ["stage.json"]


def test_the_draft_is_shipped_with_an_index_of_its_training_text(work: Path) -> None:
    index = TrainingIndex.read(work / "shipped-draft" / INDEX_FILE)
    train, held = corpus_texts(work / "corpus"), corpus_texts(work / "corpus", "heldout")
    answers = list(read_answers(work / "answers" / "set"))
    assert index.texts == len(train) + len(answers) and held
    assert all(index.overlap(text) > 0.8 for text in train)
    assert index.overlap("Nothing of this sentence was ever shown to the draft, however long one makes it.") == 0.0
    assert index.sources.startswith("made; ") and not (work / "shipped-target" / INDEX_FILE).exists()
    assert stage_facts(work / "shipped-draft")["indexed_texts"] == index.texts
    alone = index_training_text(None, work / "answers" / "set", [])
    assert alone.texts == len(answers)
    shipped = load_model(work / "shipped-draft")
    assert str(shipped.dtype) == "torch.bfloat16"
    tokenizers = [AutoTokenizer.from_pretrained(work / f"shipped-{role}") for role in ("draft", "target")]
    assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()


def test_a_second_run_makes_nothing_again(work: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    Pipeline(_recipe(tmp_path), work, TOOLS).run()
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()} == before


def test_another_recipe_in_the_same_folder_is_refused(work: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="was made from another recipe or other inputs; delete it"):
        Pipeline(_recipe(tmp_path, {"seed": 1}), work, TOOLS).run()


def test_a_change_reaches_only_the_stages_behind_it(work: Path, tmp_path: Path) -> None:
    changed = _recipe(tmp_path, {"align": {**TINY["align"], "loss": "tvd"}})
    made = dict(Pipeline(changed, work, TOOLS).made())
    assert [name for name, done in made.items() if not done] == ["draft", "evaluate", "shipped-draft"]


def test_a_folder_that_is_no_stage_is_left_alone(sources: Path, tmp_path: Path) -> None:
    mine = tmp_path / "work" / "corpus" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    with pytest.raises(EdgespecError, match="exists and is no stage of a recipe"):
        Pipeline(_recipe(tmp_path), tmp_path / "work", TOOLS).run()
    assert mine.read_text() == "precious"


def test_a_recipe_for_a_checkpoint_goes_on_after_a_kill(
    sources: Path, tiny_target_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target is given, its answers are interrupted between shards; the second run writes the other shards only."""
    from edgespec.train.generate import by_openvino

    change: dict[str, Any] = {
        "target": {"checkpoint": str(tiny_target_checkpoint)},
        **dict.fromkeys(("tokenizer", "continue", "ship")),
        "align": {**TINY["align"], "loss": "ce", "share": 0.0, "evaluate_every": 0},
        "generate": {**TINY["generate"], "top_k_logits": None, "prompts": str(tmp_path / "p.txt")},
    }
    (tmp_path / "p.txt").write_text("".join(f"def f{i}(x):\n" for i in range(24)), encoding="utf-8")
    recipe = _recipe(tmp_path, change)
    calls: list[int] = []
    real = by_openvino.OpenVinoWriter.write

    def dying(self: Any, requests: Any) -> Any:
        calls.append(len(requests))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, requests)

    monkeypatch.setattr(by_openvino.OpenVinoWriter, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        Pipeline(recipe, tmp_path / "work", TOOLS).run()
    folders = Pipeline(recipe, tmp_path / "work", TOOLS).run()
    assert list(folders) == ["corpus", "init", "pretrain", "exported-target", "answers", "draft", "evaluate"]
    assert calls == [10, 10, 10, 4]


def test_the_page_and_the_tables_hold_what_was_measured(work: Path) -> None:
    page = write_page(work, STAGES, "tiny <recipe>")
    text = page.read_text(encoding="utf-8")
    assert "tiny &lt;recipe&gt;" in text and text.count("<svg") == 4 and "http" not in text.replace("http-equiv", "")
    rate = stage_facts(work / "evaluate")["drafts"]["draft"][0]["acceptance_rate"]
    assert f"{rate:.3f}" in text
    rows = (work / "acceptance.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + 3 * 2 * 3 and rows[0].startswith("draft,temperature,task,acceptance_rate")
    assert str(rate) in rows[-6]
    stages = (work / "stages.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[0] for row in stages] == ["stage", *STAGES]


def test_the_card_tells_what_the_stages_recorded(work: Path, tmp_path: Path) -> None:
    facts = {name: stage_facts(work / name) for name in STAGES}
    card = model_card(_recipe(tmp_path), facts, {"made": "1.0"})
    rate = facts["evaluate"]["drafts"]["draft"][0]["acceptance_rate"]
    assert f"| draft | 0.6 | {rate:.3f} |" in card and "| made | 1.0 |" in card
    assert f"`{INDEX_FILE}` beside the draft" in card and "| target-2 |" in card and "`0.5*ce + 0.5*kl`, 25% of" in card


def test_a_plan_says_what_is_left_and_starts_nothing(work: Path, sources: Path, tmp_path: Path) -> None:
    pipeline = Pipeline(_recipe(tmp_path), tmp_path / "none", TOOLS)
    lines = {line.stage: line for line in plan_recipe(pipeline, rates=Rates(1e9, 4e9))}
    assert list(lines) == STAGES and not any(line.made for line in lines.values())
    assert not (tmp_path / "none").exists()
    draft = load_model(work / "init" / "model")
    multiplied = draft.num_parameters()
    if draft.get_output_embeddings().weight is not draft.get_input_embeddings().weight:
        multiplied -= draft.get_input_embeddings().weight.numel()
    assert lines["pretrain"].tokens == 2048 and lines["pretrain"].flops == 6 * multiplied * 2048
    assert lines["pretrain"].seconds == pytest.approx(6 * multiplied * 2048 / 1e9)
    assert lines["answers"].tokens == 24 * 8 and lines["answers"].disk_bytes == 24 * 8 * (8 + 8 * 4)
    whole = total(list(lines.values()))
    assert whole["tokens"] is not None and whole["tokens"] >= 2048 + 1024 + 1024
    done = plan_recipe(Pipeline(_recipe(tmp_path), work, TOOLS), rates=Rates(1e9, 4e9))
    assert all(line.made for line in done) and total(done)["flops"] is None
    rates = measured_rates(draft.config)
    assert 1e6 < rates.training < rates.matmul


def test_the_recipes_that_come_along_read() -> None:
    recipe = read_recipe(BUNDLED_RECIPE)
    assert recipe.target.phases[-1].layers >= 14
    found = sorted(BUNDLED_RECIPE.parent.glob("*.yaml"))
    assert found and all(read_recipe(path) for path in found)


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(EdgespecError, match="a recipe runs in one process; on several, run edgespec train pretrain"):
        Pipeline(_recipe(tmp_path), tmp_path / "work", TOOLS).run()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"surprise": 1}, "surprise: unknown key; choose seed, corpus, tokenizer, target, init, pretrain, continue"),
        ({"align": {**TINY["align"], "steps": 3}}, r"align\.steps: unknown key; choose tokens, batch"),
        ({"seed": "x"}, "seed: Input should be a valid integer"),
        ({"init": {"shape": "wide"}}, "init: the shape is 'wide'; give layers and hidden size as in 4x640"),
        ({"init": {"params": "many"}}, "init: params is 'many'; give a number above 0"),
        ({"init": {}}, r"init: give either shape \(LAYERSxHIDDEN\) or params"),
        ({"tokenizer": {"vocab_size": 3}}, r"tokenizer\.vocab_size: Input should be greater than 256"),
        ({"align": {**TINY["align"], "loss": "mse"}}, r"align\.loss: 'mse' in the loss 'mse' is no loss; choose ce"),
        ({"generate": {**TINY["generate"], "top_k_logits": None}}, "needs the target's distribution: set align.online"),
        ({"target": {"checkpoint": "x"}}, "the section tokenizer belongs to a target trained from nothing"),
        ({"target": {**TINY["target"], "checkpoint": "x"}}, "target: give either a checkpoint or a shape with phases"),
        ({"target": {}}, "target: give a checkpoint, or hidden, ffn, heads, kv_heads and phases"),
        ({"target": {**TINY["target"], "heads": 3}}, "hidden must be a multiple of heads"),
        (
            {"pretrain": None, "align": {**TINY["align"], "share": 0}},
            "continue goes on from pretrain, which is missing",
        ),
        ({"generate": None}, "align needs the section generate"),
        ({"pretrain": None, "continue": None}, "align.share needs data"),
        ({"generate": {**TINY["generate"], "longest": 2}}, r"longest \(2\) must be at least shortest \(4\)"),
        ({"pretrain": {"tokens": 5}}, r"pretrain\.data: this key is missing"),
        ({"pretrain": None, "continue": None, "generate": None, "align": None}, "ship needs a draft that was trained"),
        ({"corpus": None}, "a target trained from nothing needs the sections corpus and tokenizer"),
    ],
)
def test_a_wrong_recipe_is_a_sentence(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        _recipe(tmp_path, change)


def test_a_corpus_that_is_named_must_be_there(tmp_path: Path, tiny_target_checkpoint: Path) -> None:
    change = {"target": {"checkpoint": str(tiny_target_checkpoint)}, "corpus": None, "tokenizer": None}
    with pytest.raises(EdgespecError, match="'corpus' is named as a source and there is no section corpus"):
        _recipe(tmp_path, change)


def test_a_missing_or_shapeless_recipe_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    with pytest.raises(EdgespecError, match="is no mapping of sections; see train/recipes"):
        read_recipe(tmp_path / "list.yaml")


def test_a_damaged_record_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "stage.json").write_text("{")
    with pytest.raises(EdgespecError, match=r"stage\.json' cannot be read .* delete its folder and run again"):
        stage_facts(tmp_path)
