"""The draft's own stages in a recipe: pretraining on text, and alignment to what the target wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from edgespec.errors import EdgespecError
from edgespec.progress import SILENT, Progress
from edgespec.staging import require_folder, write_atomically

from .align import AlignConfig, align, in_service
from .batches import Batches
from .checkpoints import FOLDER as CHECKPOINTS
from .evaluate import HeldOut, Service
from .finishing import keep
from .generate.prompts import Prompt, encode
from .loop import LoopConfig, is_main_process
from .losses import Mix
from .metrics import EVALUATIONS, METRICS
from .models import MODEL, load_model, load_tokenizer, require_same_vocabulary, stop_ids
from .packing import PackedText, TextEncoder
from .pretrain import RUN, PretrainConfig, pretrain_checkpoint
from .recipe import AlignSection, EvaluateSection, PretrainSection, Source, Steps
from .schedule import Schedule
from .sources import SourceSpec
from .stages import inputs_hash

HELDOUT_ROWS = 32
HELDOUT_SHARE = 0.01
"""Of the documents of pretraining."""
IN_SERVICE_TOKENS = 48
"""Tokens of an answer by which a draft in training is judged."""


def loop_config(section: Steps, seed: int) -> LoopConfig:
    """A section's training as the loop takes it."""
    return LoopConfig(
        steps=section.steps(),
        batch=section.batch,
        micro_batch=section.micro_batch,
        learning_rate=section.learning_rate,
        schedule=Schedule(section.schedule, section.warmup, section.decay),
        optimizer=section.optimizer,
        weight_decay=section.weight_decay,
        precision=section.precision,
        compiled=section.compiled,
        seed=seed,
        checkpoint_every=section.checkpoint_every,
        hook_every=section.evaluate_every,
    )


def specs_of(sources: Sequence[Source], corpus: Path) -> tuple[SourceSpec, ...]:
    """Sources of a recipe as pretraining takes them; `corpus` is the stage's folder."""
    return tuple(
        SourceSpec(
            str(corpus / "train.jsonl") if part.source == "corpus" else part.source,
            part.weight,
            part.field,
            part.subset,
            part.split,
        )
        for part in sources
    )


def pretrain_draft(
    folder: Path,
    section: PretrainSection,
    draft: Path,
    corpus: Path,
    *,
    corpus_held: float = 0.0,
    seed: int,
    service: Service | None,
    progress: Progress = SILENT,
) -> Mapping[str, Any]:
    """Next-token training of the checkpoint `draft` on the section's text, into `folder`; goes on where it stopped.

    corpus_held: the share that the corpus stage has held out. It chose by the same hash of a text as pretraining does,
    so those documents are not there any more, and the share to hold out here is counted from it on.
    """
    config = PretrainConfig(
        specs_of(section.data, corpus),
        section.tokens,
        section.length,
        heldout_share=HELDOUT_SHARE + corpus_held,
        heldout_rows=-(-HELDOUT_ROWS // section.batch) * section.batch,
        loop=loop_config(section, seed),
    )
    hook = None if service is None else in_service(service)
    return pretrain_checkpoint(draft, config, folder, hook=hook, progress=progress)


def align_draft(
    folder: Path,
    section: AlignSection,
    draft: str | Path,
    target: Any,
    answers: Path,
    *,
    cached: bool,
    data: Sequence[Source],
    corpus: Path,
    seed: int,
    service: Service | None,
    progress: Progress = SILENT,
) -> Mapping[str, Any]:
    """Alignment of the checkpoint `draft`, into `folder`; goes on where it stopped. target: its model, asked when the
    section says online."""
    model, tokenizer = load_model(draft, dtype=torch.float32), load_tokenizer(draft)
    pretraining: Batches | None = None
    extra = round(section.share * section.batch)
    if extra:
        specs = specs_of(data, corpus)
        pretraining = PackedText(
            tuple(spec.open() for spec in specs),
            tuple(spec.weight for spec in specs),
            TextEncoder(tokenizer),
            section.length,
            extra,
            seed,
        )
    outcome = align(
        model,
        answers,
        folder,
        AlignConfig(section.loss, section.length, section.share, section.heldout, loop=loop_config(section, seed)),
        cached=cached,
        target=target if section.online else None,
        pretraining=pretraining,
        service=service,
        progress=progress,
    )
    return keep(folder, model, tokenizer, outcome, progress)


def run_alignment(
    draft: str,
    answers: Path,
    out: Path,
    section: AlignSection,
    *,
    target: str | None,
    prompts: Sequence[HeldOut],
    seed: int,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """`edgespec train align`: the checkpoint `draft` aligned in the folder `out`, on one process or several; the facts
    of run.json. A finished run of the same inputs is kept, one that was stopped goes on.

    target: a checkpoint, for a section that is online and for trials on `prompts`. Raises EdgespecError for a target of
    another vocabulary, and for an `out` that holds something else.
    """
    given = [section, seed, *(Path(name) if Path(name).exists() else name for name in (draft, target) if name)]
    key = inputs_hash([*given, answers])
    if done := _finished(out, key):
        progress.say(f"'{out / MODEL}' is aligned already")
        return done
    require_folder(out.absolute().parent, out.name)
    asked = service = None
    if target is not None:
        require_same_vocabulary(target, draft)
        asked = load_model(target, dtype=torch.float32).eval()
        if section.evaluate_every:
            service = service_on(asked, load_tokenizer(draft), prompts, EvaluateSection(), seed)
    out.mkdir(exist_ok=True)
    facts = align_draft(
        out,
        section,
        draft,
        asked,
        answers,
        cached=not section.online and Mix.parse(section.loss).needs_target,
        data=section.data,
        corpus=Path(),
        seed=seed,
        service=service,
        progress=progress,
    )
    if facts["finished"] and is_main_process():
        write_atomically(out / RUN, json.dumps({"inputs": key, "facts": facts}, indent=1) + "\n")
    return dict(facts)


def _finished(out: Path, key: str) -> dict[str, Any] | None:
    """What the finished run in `out` came to; None when there is none."""
    if (out / RUN).is_file():
        found = json.loads((out / RUN).read_text(encoding="utf-8"))
        if found.get("inputs") != key:
            raise EdgespecError(f"'{out}' holds another finished run; choose another output directory")
        return dict(found["facts"])
    ours = {CHECKPOINTS, METRICS, EVALUATIONS, MODEL}
    if out.is_dir() and any(path.name not in ours for path in out.iterdir() if not path.name.startswith(".")):
        raise EdgespecError(f"'{out}' holds files and no training that could go on; choose another output directory")
    return None


def service_on(target: Any, tokenizer: Any, prompts: Sequence[HeldOut], section: EvaluateSection, seed: int) -> Service:
    """The target on a few of the held-out prompts, spread over the tasks; chats only where it has a template."""
    asked = [prompt for prompt in prompts if not prompt.chat or tokenizer.chat_template]
    step = max(1, len(asked) // section.in_training)
    return Service(
        target,
        [(prompt.task, encode(Prompt(prompt.text, prompt.chat), tokenizer)) for prompt in asked[::step]][
            : section.in_training
        ],
        gamma=section.gamma,
        temperatures=section.temperatures,
        max_new_tokens=min(IN_SERVICE_TOKENS, section.max_new_tokens),
        stop_ids=stop_ids(target),
        seed=seed,
    )


def read_source(text: str) -> Source:
    """`LOCATION[,weight=W]`, as SourceSpec reads it."""
    spec = SourceSpec.parse(text)
    return Source(source=spec.location, weight=spec.weight, field=spec.field, subset=spec.subset, split=spec.split)
