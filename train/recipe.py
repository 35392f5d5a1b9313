"""A recipe: one YAML file from source text to a pair of checkpoints, each stage skipped when it is already made.

A stage's artefact is a directory that appears whole, with a stage.json that names the stage, the hash of everything
that went into it and what came out. A directory that is no stage is never touched.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from typing_extensions import Self

from edgespec.errors import EdgespecError
from edgespec.progress import SILENT, Progress
from edgespec.staging import staged_directory, write_atomically
from edgespec.training_index import INDEX_FILE

from .align import agreement, align, cache_target, to_rows
from .corpus import gather
from .generate import Completion, complete, cut_prompts
from .grow import grow_depth
from .ship import index_training_text, ship
from .timed import Budget, Schedule, heldout_loss, pack, pretrain
from .timed import Progress as TrainProgress
from .tokenizer import train_tokenizer

ROW_LENGTH = 512
"""Tokens in a training row."""

ExportTarget = Callable[[Path, Path], Path]
"""(checkpoint, folder to make) -> a directory that openvino-genai loads."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CorpusSection(_Section):
    heldout_share: float = Field(gt=0, lt=0.5)
    sources: dict[str, int]


class TokenizerSection(_Section):
    vocab_size: int = Field(gt=256)


class Training(_Section):
    """A stretch of training: `minutes` of wall clock or `steps`; `peak` multiplies the default learning rates."""

    minutes: float | None = Field(gt=0, default=None)
    steps: int | None = Field(gt=0, default=None)
    batch: int = Field(ge=1)
    warmup: float = Field(gt=0, lt=1)
    decay: float = Field(ge=0, le=1)
    peak: float = Field(gt=0, default=1.0)

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("give either minutes or steps")
        return self

    def budget(self) -> Budget:
        return Budget(self.minutes, self.steps)

    def compiled(self) -> bool:
        """torch.compile takes a minute to start: worth it for long stretches only."""
        return (self.minutes or 0) > 3

    def schedule(self) -> Schedule:
        rates = Schedule()
        return Schedule(rates.lr_matrices * self.peak, rates.lr_rest * self.peak, self.warmup, self.decay)


class Phase(Training):
    layers: int = Field(ge=1)


class ModelSection(_Section):
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    context: int
    phases: list[Phase] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        depths = [phase.layers for phase in self.phases]
        if depths != sorted(depths):
            raise ValueError(f"layers can only grow from phase to phase, not go {depths}")
        if self.hidden % self.heads or self.heads % self.kv_heads:
            raise ValueError("hidden must be a multiple of heads, and heads of kv_heads")
        return self

    def build(self, vocab_size: int, end_of_text: int) -> LlamaForCausalLM:
        """A fresh Llama of the first phase's depth, head tied to the embedding."""
        config = LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden,
            intermediate_size=self.ffn,
            num_hidden_layers=self.phases[0].layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=self.context,
            tie_word_embeddings=True,
            rms_norm_eps=1e-5,
            bos_token_id=end_of_text,
            eos_token_id=end_of_text,
            pad_token_id=end_of_text,
        )
        return LlamaForCausalLM(config)


class GenerateSection(_Section):
    prompts: int = Field(ge=1)
    heldout_prompts: int = Field(ge=1)
    shortest: int = Field(ge=1)
    longest: int
    max_new_tokens: int = Field(ge=1)
    temperatures: list[float] = Field(min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.longest < self.shortest:
            raise ValueError(f"longest ({self.longest}) must be at least shortest ({self.shortest})")
        return self


class AlignSection(Training):
    top_k: int = Field(ge=1)


class Recipe(_Section):
    seed: int
    corpus: CorpusSection
    tokenizer: TokenizerSection
    target: ModelSection
    draft: ModelSection
    generate: GenerateSection
    align: AlignSection

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Raises EdgespecError naming the key that is unknown, missing or out of range."""
        try:
            return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (OSError, yaml.YAMLError) as error:
            raise EdgespecError(f"the recipe '{path}' cannot be read: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            raise EdgespecError(f"the recipe '{path}': {'.'.join(map(str, first['loc']))}: {first['msg']}") from error

    def minutes(self) -> float:
        """Wall-clock minutes the recipe gives to training; making the corpus and the answers comes on top, and so do
        stretches whose budget is in steps."""
        return sum(part.minutes or 0 for part in [*self.target.phases, *self.draft.phases, self.align])


class RecipeRun:
    """The stages of one recipe in one work folder. Each returns its artefact's directory."""

    def __init__(self, recipe: Recipe, work: Path, export_target: ExportTarget, progress: Progress = SILENT) -> None:
        self.recipe = recipe
        self.work = work
        self.export_target = export_target
        self.progress = progress
        work.mkdir(parents=True, exist_ok=True)

    def all(self) -> tuple[Path, Path]:
        """Every stage in order; the shipped target and draft."""
        corpus = self.corpus()
        target = self.model("target", self.recipe.target, corpus)
        pretrained = self.model("draft", self.recipe.draft, corpus)
        answers = self.answers(corpus, target)
        draft = self.aligned(target, pretrained, answers)
        return self.shipped_target(target), self.shipped_draft(draft, corpus, answers)

    def shipped_target(self, checkpoint: Path) -> Path:
        """`checkpoint` as it is given away: bfloat16, with its tokenizer."""

        def make(folder: Path) -> dict[str, Any]:
            ship(checkpoint, folder)
            return {"bytes": _size(folder)}

        return self._stage("shipped-target", [checkpoint], make)

    def shipped_draft(self, checkpoint: Path, corpus: Path, answers: Path) -> Path:
        """The same for the draft, with the index of what it was trained on."""

        def make(folder: Path) -> dict[str, Any]:
            ship(checkpoint, folder)
            with self.progress.task("indexing the training text"):
                index = index_training_text(corpus, answers, self.recipe.corpus.sources)
                index.write(folder / INDEX_FILE)
            return {"bytes": _size(folder), "indexed_texts": index.texts, "indexed_bytes": index.text_bytes}

        return self._stage("shipped-draft", [checkpoint, corpus, answers], make)

    def corpus(self) -> Path:
        """Tokenizer, and token ids of training and held-out documents."""
        section = self.recipe.corpus

        def make(folder: Path) -> dict[str, Any]:
            with self.progress.task("gathering source text"):
                corpus = gather(section.sources, section.heldout_share, self.recipe.seed)
            with self.progress.task("training the tokenizer"):
                train_tokenizer((d.text for d in corpus.train), self.recipe.tokenizer.vocab_size, folder / "tokenizer")
            tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
            facts: dict[str, Any] = {"dropped": corpus.dropped}
            for name, documents in (("train", corpus.train), ("heldout", corpus.heldout)):
                ids = [np.asarray(tokenizer(d.text)["input_ids"], dtype=np.int32) for d in documents]
                np.savez(folder / f"{name}.npz", *ids)
                hashes = "".join(f"{d.sha256}  {d.name}\n" for d in documents)
                (folder / f"{name}.sha256").write_text(hashes, encoding="utf-8")
                facts[name] = {"documents": len(ids), "tokens": int(sum(map(len, ids)))}
            return facts

        return self._stage("corpus", [section, self.recipe.tokenizer, self.recipe.seed], make)

    def model(self, role: str, section: ModelSection, corpus: Path) -> Path:
        """Pretrain phase by phase; the last phase's directory."""
        previous: Path | None = None
        for index, phase in enumerate(section.phases):
            previous = self._phase(f"{role}-{index + 1}", index, section, phase, corpus, previous)
        assert previous is not None
        return previous

    def _phase(
        self, name: str, index: int, section: ModelSection, phase: Phase, corpus: Path, previous: Path | None
    ) -> Path:
        def make(folder: Path) -> dict[str, Any]:
            torch.manual_seed(self.recipe.seed)
            tokenizer = AutoTokenizer.from_pretrained(corpus / "tokenizer")
            end = tokenizer.eos_token_id
            if previous is None:
                model = section.build(self.recipe.tokenizer.vocab_size, end)
            else:
                model = LlamaForCausalLM.from_pretrained(previous, dtype=torch.float32)
                if phase.layers != model.config.num_hidden_layers:
                    model = grow_depth(model, phase.layers)
            rows = pack([ids.tolist() for ids in _arrays(corpus / "train.npz")], ROW_LENGTH, end)
            heldout = pack([ids.tolist() for ids in _arrays(corpus / "heldout.npz")], ROW_LENGTH, end)[:64]
            with self.progress.task(f"training {name}", total=1) as task:
                shown = 0.0

                def report(step: TrainProgress) -> None:
                    nonlocal shown
                    task.advance(step.done - shown)
                    shown = step.done
                    task.describe(f"training {name}: {step.tokens / 1e6:.2f} M tokens, loss {step.loss:.2f}")

                last = pretrain(
                    model,
                    rows,
                    heldout[:24],
                    phase.schedule(),
                    budget=phase.budget(),
                    batch=phase.batch,
                    seed=self.recipe.seed + index,
                    log=folder / "log.jsonl",
                    report=report,
                    compiled=phase.compiled(),
                )
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            return {
                "tokens": last.tokens,
                "seconds": last.seconds,
                "parameters": model.num_parameters(),
                "heldout_loss": heldout_loss(model, heldout),
            }

        inputs = [section.model_dump(exclude={"phases"}), phase, corpus, self.recipe.seed]
        return self._stage(name, inputs + ([previous] if previous else []), make)

    def answers(self, corpus: Path, target: Path) -> Path:
        """The target's own continuations of training text, and of held-out text to judge by."""
        section = self.recipe.generate

        def make(folder: Path) -> dict[str, Any]:
            directory = self.export_target(target, folder / "ir")
            facts = {}
            for name, count in (("train", section.prompts), ("heldout", section.heldout_prompts)):
                documents = [ids.tolist() for ids in _arrays(corpus / f"{name}.npz")]
                prompts = cut_prompts(documents, count, section.shortest, section.longest, self.recipe.seed)
                completions = complete(
                    directory,
                    prompts,
                    section.temperatures,
                    max_new_tokens=section.max_new_tokens,
                    seed=self.recipe.seed,
                    progress=self.progress,
                )
                with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as lines:
                    lines.writelines(json.dumps(vars(completion)) + "\n" for completion in completions)
                facts[name] = {"answers": len(completions), "tokens": sum(len(c.answer) for c in completions)}
            shutil.rmtree(folder / "ir")
            return facts

        return self._stage("answers", [section, target, corpus, self.recipe.seed], make)

    def aligned(self, target: Path, pretrained: Path, answers: Path) -> Path:
        """The draft after direct alignment."""
        section = self.recipe.align

        def make(folder: Path) -> dict[str, Any]:
            torch.manual_seed(self.recipe.seed)
            teacher = LlamaForCausalLM.from_pretrained(target, dtype=torch.float32)
            draft = LlamaForCausalLM.from_pretrained(pretrained, dtype=torch.float32)
            caches = {}
            for name in ("heldout", "train"):
                ids, counts = to_rows(_read_completions(answers / f"{name}.jsonl"), self._answer_length(), 0)
                caches[name] = cache_target(teacher, ids, counts, k=section.top_k, progress=self.progress)
            before = agreement(draft, caches["heldout"])
            started = time.perf_counter()
            with self.progress.task("aligning the draft"):
                after = align(
                    draft,
                    caches["train"],
                    caches["heldout"],
                    section.schedule(),
                    budget=section.budget(),
                    batch=section.batch,
                    seed=self.recipe.seed,
                    log=folder / "log.jsonl",
                    compiled=section.compiled(),
                )
            draft.save_pretrained(folder)
            AutoTokenizer.from_pretrained(target).save_pretrained(folder)
            names = ("top1", "overlap")
            return {
                "parameters": draft.num_parameters(),
                "seconds": time.perf_counter() - started,
                "before": dict(zip(names, before, strict=True)),
                "after": dict(zip(names, after, strict=True)),
            }

        return self._stage("draft", [section, target, pretrained, answers, self.recipe.seed], make)

    def _answer_length(self) -> int:
        return self.recipe.generate.longest + self.recipe.generate.max_new_tokens

    def _stage(self, name: str, inputs: list[Any], make: Callable[[Path], dict[str, Any]]) -> Path:
        """Make the artefact `name` unless it stands there already, made from the same `inputs`."""
        folder = self.work / name
        key = hashlib.sha256(json.dumps([_identity(item) for item in inputs], sort_keys=True).encode()).hexdigest()
        stamp = folder / "stage.json"
        if stamp.is_file():
            if json.loads(stamp.read_text(encoding="utf-8"))["inputs"] == key:
                self.progress.say(f"{name}: made already, kept")
                return folder
            raise EdgespecError(
                f"'{folder}' was made from another recipe or other inputs; delete it or choose another work folder"
            )
        if folder.exists():
            raise EdgespecError(f"'{folder}' exists and is no stage of a recipe; choose another work folder with --out")
        with staged_directory(folder, progress=self.progress) as building:
            facts = make(building)
            stamped = {"stage": name, "inputs": key, "facts": facts}
            write_atomically(building / stamp.name, json.dumps(stamped, indent=2) + "\n")
        return folder


def stage_facts(folder: Path) -> dict[str, Any]:
    """What a finished stage recorded of itself."""
    facts = json.loads((folder / "stage.json").read_text(encoding="utf-8"))["facts"]
    assert isinstance(facts, dict)
    return facts


def _identity(item: Any) -> Any:
    if isinstance(item, BaseModel):
        return item.model_dump()
    if isinstance(item, Path):  # an upstream artefact counts by what made it, not by where it lies
        return json.loads((item / "stage.json").read_text(encoding="utf-8"))["inputs"]
    return item


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _arrays(path: Path) -> list[np.ndarray]:
    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]


def _read_completions(path: Path) -> list[Completion]:
    with path.open(encoding="utf-8") as lines:
        return [Completion(**json.loads(line)) for line in lines]
