"""A recipe's stages, in order, and what each is made from. How each is made stands in the files named.

corpus, target-1 ...    from_nothing.py, when the recipe has them
init                    the draft, untrained
pretrain, continue      drafting.py
answers                 answering.py
draft                   drafting.py: aligned
evaluate                evaluate.py: every trained draft on the way
shipped-draft, -target  ship.py
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from edgespec.bundled import checkpoint_named
from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.progress import SILENT, Progress
from edgespec.training_index import INDEX_FILE

from .answering import SET, answer
from .drafting import align_draft, pretrain_draft, service_on
from .evaluate import HeldOut, Service, evaluate_at
from .finishing import require_finished
from .from_nothing import make_corpus, train_phase
from .init import make_draft
from .losses import Mix
from .models import MODEL, checkpoint_in, load_model, load_tokenizer
from .recipe import EvaluateSection, PretrainSection, Recipe, Source
from .ship import index_training_text, ship
from .stages import Stage, inputs_hash, run_stage, which_are_made


@dataclass(frozen=True)
class Tools:
    """What other stages of edgespec do for a recipe; the command hands them in.

    export: (checkpoint, folder to make) -> the directory in it that OpenVINO runs. pair: (target, draft, folder to
    make), both exported -> the pair. prompts: a suite's name or a file -> held-out prompts.
    """

    export: Callable[[str, Path], Path]
    pair: Callable[[Path, Path, Path], Pair]
    prompts: Callable[[str], list[HeldOut]]


class Pipeline:
    """The stages of one recipe in one work folder."""

    def __init__(self, recipe: Recipe, work: Path, tools: Tools, progress: Progress = SILENT) -> None:
        self.recipe = recipe
        self.work = work
        self.tools = tools
        self.progress = progress

    def run(self) -> dict[str, Path]:
        """Every stage in order; their folders by name.

        Raises EdgespecError at the first that cannot be made, Stopped when training was asked to stop: what was done so
        far stays, and the same command goes on.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise EdgespecError(
                "a recipe runs in one process; on several, run edgespec train pretrain and align through accelerate "
                "launch, one after the other"
            )
        self.work.mkdir(parents=True, exist_ok=True)
        return {stage.name: run_stage(self.work, stage, self.progress) for stage in self.stages()}

    def made(self) -> list[tuple[str, bool]]:
        """The stages in order, and whether each would be skipped."""
        return which_are_made(self.work, self.stages())

    @property
    def target(self) -> str:
        """The target's checkpoint: a folder or a hub id."""
        given = self.recipe.target.checkpoint
        if given is None:
            return str(self.work / f"target-{len(self.recipe.target.phases)}")
        return checkpoint_named(given, "target")

    def drafts(self) -> list[str]:
        """Stages whose folder is a trained draft, in order."""
        recipe = self.recipe
        named = (("pretrain", recipe.pretrain), ("continue", recipe.continue_), ("draft", recipe.align))
        return [name for name, section in named if section]

    def stages(self) -> Iterator[Stage]:
        """In order; a stage's inputs name the folders of those before it."""
        recipe, work, seed = self.recipe, self.work, self.recipe.seed
        corpus = work / "corpus"
        if recipe.corpus:
            make = partial(
                make_corpus, section=recipe.corpus, tokenizer=recipe.tokenizer, seed=seed, progress=self.progress
            )
            yield Stage("corpus", [recipe.corpus, recipe.tokenizer, seed], make)
        yield from self._target_phases(corpus)
        target = Path(self.target) if recipe.target.phases or Path(self.target).is_dir() else self.target
        yield Stage("init", [recipe.init, target, seed], self._init)
        draft = work / "init"
        for name, section in (("pretrain", recipe.pretrain), ("continue", recipe.continue_)):
            if section:
                inputs = [section, *self._data(section.data), draft, seed]
                yield Stage(name, inputs, partial(self._pretrain, section=section, draft=draft), True)
                draft = work / name
        exported = work / "exported-target"
        by_openvino = recipe.generate is not None and recipe.generate.engine == "openvino"
        if by_openvino or recipe.evaluate:
            yield Stage(exported.name, [target], self._export)
        if recipe.generate:
            prompts: list[Any] = [corpus] if recipe.generate.prompts == "corpus" else []
            if Path(recipe.generate.prompts).is_file():
                prompts = [Path(recipe.generate.prompts)]
            inputs = [recipe.generate, target, seed, *prompts]
            yield Stage("answers", inputs, partial(self._answer, inputs=inputs), True)
        if recipe.align:
            mixed = self._data(recipe.alignment_data()) if recipe.align.share else []
            inputs = [recipe.align, *mixed, draft, work / "answers", target, seed]
            yield Stage("draft", inputs, partial(self._align, draft=draft), True)
        if recipe.evaluate and self.drafts():
            asked = [[prompt.task, prompt.text, prompt.chat] for prompt in self.tools.prompts(recipe.evaluate.prompts)]
            inputs = [recipe.evaluate, asked, *(work / name for name in self.drafts()), target, seed]
            yield Stage("evaluate", inputs, self._evaluate)
        yield from self._shipped()

    def _target_phases(self, corpus: Path) -> Iterator[Stage]:
        section = self.recipe.target
        shape = section.model_dump(exclude={"phases", "checkpoint"})
        previous: Path | None = None
        for number, phase in enumerate(section.phases):
            make = partial(
                train_phase,
                section=section,
                number=number,
                corpus=corpus,
                previous=previous,
                seed=self.recipe.seed,
                progress=self.progress,
            )
            inputs = [shape, phase, corpus, self.recipe.seed, *([previous] if previous else [])]
            yield Stage(f"target-{number + 1}", inputs, make)
            previous = self.work / f"target-{number + 1}"

    def _shipped(self) -> Iterator[Stage]:
        recipe = self.recipe
        if recipe.ship is None:
            return
        last = self.work / self.drafts()[-1]
        corpus = self.work / "corpus" if recipe.corpus else None
        answers = self.work / "answers" if recipe.align else None
        inputs = [recipe.ship, last, *(folder for folder in (corpus, answers) if folder)]
        yield Stage("shipped-draft", inputs, partial(self._ship, last=last, corpus=corpus, answers=answers))
        if recipe.target.phases:
            target = Path(self.target)
            yield Stage("shipped-target", [target], lambda folder: {"bytes": _size(ship(target, folder))})

    def _data(self, sources: Sequence[Source]) -> list[Any]:
        """A source as an input: folders and files by content, the hub's by name."""
        paths = [self.work / "corpus" if part.source == "corpus" else Path(part.source) for part in sources]
        named = zip(sources, paths, strict=True)
        return [path if part.source == "corpus" or path.exists() else part.source for part, path in named]

    def _export(self, folder: Path) -> Mapping[str, Any]:
        ready = self.tools.export(self.target, folder / "pair")
        return {"bytes": _size(ready)}

    @property
    def _exported(self) -> Path:
        return self.work / "exported-target" / "pair" / "target"

    def _init(self, folder: Path) -> Mapping[str, Any]:
        record = make_draft(self.target, self.recipe.init.config(self.recipe.seed), folder / MODEL, self.progress)
        return {name: value for name, value in record.items() if name not in ("target", "draft")}  # no places

    def _pretrain(self, folder: Path, section: PretrainSection, draft: Path) -> Mapping[str, Any]:
        service = self._service() if section.evaluate_every else None
        facts = pretrain_draft(
            folder,
            section,
            checkpoint_in(draft),
            self.work / "corpus",
            corpus_held=self.recipe.corpus.heldout_share if self.recipe.corpus else 0.0,
            seed=self.recipe.seed,
            service=service,
            progress=self.progress,
        )
        require_finished(facts, folder)
        return facts

    def _answer(self, folder: Path, inputs: Sequence[Any]) -> Mapping[str, Any]:
        assert self.recipe.generate is not None
        return answer(
            folder,
            self.recipe.generate,
            self.target,
            self.work / "corpus",
            self._exported,
            made_from=inputs_hash(inputs),
            seed=self.recipe.seed,
            progress=self.progress,
        )

    def _align(self, folder: Path, draft: Path) -> Mapping[str, Any]:
        section = self.recipe.align
        assert section is not None
        facts = align_draft(
            folder,
            section,
            checkpoint_in(draft),
            load_model(self.target, dtype=torch.float32) if section.online else None,
            self.work / "answers" / SET,
            cached=not section.online and Mix.parse(section.loss).needs_target,
            data=self.recipe.alignment_data(),
            corpus=self.work / "corpus",
            seed=self.recipe.seed,
            service=self._service() if section.evaluate_every else None,
            progress=self.progress,
        )
        require_finished(facts, folder)
        return facts

    def _service(self) -> Service:
        section = self.recipe.evaluate or EvaluateSection()
        target = load_model(self.target, dtype=torch.float32).eval()
        prompts = self.tools.prompts(section.prompts)
        return service_on(target, load_tokenizer(self.target), prompts, section, self.recipe.seed)

    def _evaluate(self, folder: Path) -> Mapping[str, Any]:
        section = self.recipe.evaluate
        assert section is not None
        prompts = self.tools.prompts(section.prompts)
        found = {}
        for name in self.drafts():
            draft = self.tools.export(str(checkpoint_in(self.work / name)), folder / f"draft-{name}")
            pair = self.tools.pair(self._exported, draft, folder / f"pair-{name}")
            found[name] = evaluate_at(
                pair,
                prompts,
                gamma=section.gamma,
                temperatures=section.temperatures,
                max_new_tokens=section.max_new_tokens,
                samples=section.samples,
                seed=self.recipe.seed,
                progress=self.progress,
            )
            for made in (draft.parent, pair.root):
                shutil.rmtree(made, ignore_errors=True)
        return {"drafts": found}

    def _ship(self, folder: Path, last: Path, corpus: Path | None, answers: Path | None) -> Mapping[str, Any]:
        ship(checkpoint_in(last), folder)
        facts: dict[str, Any] = {}
        if self.recipe.ship and self.recipe.ship.index and (corpus or answers):
            with self.progress.task("indexing the training text"):
                sources = self.recipe.corpus.sources if self.recipe.corpus else []
                index = index_training_text(corpus, answers / SET if answers else None, sources)
                index.write(folder / INDEX_FILE)
            facts = {"indexed_texts": index.texts, "indexed_bytes": index.text_bytes}
        return {"bytes": _size(folder), **facts}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
