"""Pretraining and continued pretraining: a checkpoint and text in, a checkpoint out.

    run/
      model/             the result, a directory that transformers loads; appears when the run is finished
      run.json           what the run was and came to
      metrics.csv        a row a step; evaluations.csv: the held-out loss and whatever a hook measures
      checkpoints/       where a run that was stopped or killed goes on

Continuing is the same with another run's model and other data: FastDraft's text, then code with a share of text
(arXiv:2411.11055).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from edgespec import vocabulary
from edgespec.errors import EdgespecError
from edgespec.progress import SILENT, Progress
from edgespec.staging import require_folder, write_atomically

from .checkpoints import recipe_differences
from .cross_entropy import next_token_loss
from .finishing import keep
from .heads import rule_of
from .loop import Hook, LoopConfig, train
from .models import MODEL, load_model, load_tokenizer
from .packing import Held, PackedText, TextEncoder, heldout_batches
from .sources import Source, SourceSpec

RUN = "run.json"


@dataclass(frozen=True)
class PretrainConfig:
    """tokens: the budget, rounded up to whole steps. length: tokens of a row. heldout_share: of the documents, by their
    hash; heldout_rows: how many rows of them the held-out loss is taken over (0: none is held out)."""

    data: tuple[SourceSpec, ...]
    tokens: int
    length: int = 512
    heldout_share: float = 0.01
    heldout_rows: int = 64
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=1))

    def __post_init__(self) -> None:
        if not self.data:
            raise EdgespecError("there is no data to train on; give at least one source")
        if self.tokens < 1:
            raise EdgespecError(f"the budget is {self.tokens} tokens; it must be at least 1")
        if self.length < 8:
            raise EdgespecError(f"rows of {self.length} tokens are too short to learn from; give at least 8")

    def steps(self) -> int:
        return -(-self.tokens // (self.loop.batch * self.length))


def pretrain_checkpoint(
    checkpoint: Path,
    config: PretrainConfig,
    out: Path,
    *,
    target: Path | None = None,
    hook: Hook | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Train the checkpoint on `config.data` in the folder `out`; the facts of run.json, `finished` among them.

    The same call goes on from the last checkpoint, and returns the facts at once when the run is finished.
    target: its vocabulary is compared with the checkpoint's. Raises EdgespecError as `loop.train` does, and when there
    is no text, rows are longer than the model's context, or a vocabulary is another one.
    """
    loop = _with_steps(config)
    if target is not None:
        vocabulary.require_shared(target, checkpoint, str(target), str(checkpoint))
    require_folder(out.absolute().parent, out.name)
    sources = tuple(spec.open() for spec in config.data)
    recipe = {
        "model": _identity(checkpoint),
        "data": {
            spec.location: {**vars(spec), "files": source.identity()}
            for spec, source in zip(config.data, sources, strict=True)
        },
        "length": config.length,
        "heldout": {"share": config.heldout_share, "rows": config.heldout_rows},
    }
    if done := _finished(out, {**recipe, "loop": loop.recipe()}):
        progress.say(f"'{out / MODEL}' is made already")
        return done
    text, heldout = _text(checkpoint, sources, config, progress)
    model = load_model(checkpoint, dtype=torch.float32)
    _require_fit(model, text, config, checkpoint)
    rule_of(model)  # tried now: a compiled or wrapped model would be compiled for it
    out.mkdir(exist_ok=True)
    outcome = train(
        model,
        text,
        next_token_loss,
        loop,
        out,
        recipe=recipe,
        heldout=heldout,
        hook=hook,
        progress=progress,
        label=f"pretraining '{out.name}'",
    )
    facts = keep(out, model, load_tokenizer(checkpoint), outcome, progress)
    if outcome.finished and outcome.is_main:
        document = {"recipe": {**recipe, "loop": loop.recipe()}, "facts": facts}
        write_atomically(out / RUN, json.dumps(document, indent=1) + "\n")
    return facts


def _with_steps(config: PretrainConfig) -> LoopConfig:
    return replace(config.loop, steps=config.steps())


def _text(
    checkpoint: Path, sources: tuple[Source, ...], config: PretrainConfig, progress: Progress
) -> tuple[PackedText, Sequence[Any]]:
    tokenizer = load_tokenizer(checkpoint)
    held = Held(config.heldout_share) if config.heldout_rows and config.heldout_share else None
    text = PackedText(
        sources=sources,
        weights=tuple(spec.weight for spec in config.data),
        encode=TextEncoder(tokenizer),
        length=config.length,
        batch=config.loop.batch,
        seed=config.loop.seed,
        held=held,
    )
    heldout: Sequence[Any] = ()
    if held:
        with progress.task("choosing held-out documents"):
            heldout = heldout_batches(text, held, config.heldout_rows)
        if not heldout:
            progress.say("the sources have too little text to hold any out: no held-out loss will be measured")
    return text, heldout


def _require_fit(model: Any, text: PackedText, config: PretrainConfig, checkpoint: Path) -> None:
    longest = getattr(model.config, "max_position_embeddings", config.length)
    if config.length > longest:
        raise EdgespecError(
            f"rows of {config.length} tokens do not fit into the context of '{checkpoint}', {longest} tokens; "
            "give a shorter length"
        )
    rows = model.get_input_embeddings().weight.shape[0]
    largest = text.encode.largest_id()
    if largest >= rows:
        raise EdgespecError(
            f"the tokenizer of '{checkpoint}' has ids up to {largest} and the model's embedding has {rows} rows: they "
            "do not belong together; take the tokenizer that the model was made with"
        )


def _finished(out: Path, recipe: dict[str, Any]) -> dict[str, Any] | None:
    """run.json's facts when the run in `out` is finished; refuses when it was another one."""
    if not (out / RUN).is_file():
        return None
    document = json.loads((out / RUN).read_text(encoding="utf-8"))
    differences = recipe_differences(document["recipe"], json.loads(json.dumps(recipe)))
    if differences:
        raise EdgespecError(
            f"'{out}' holds another finished run: {'; '.join(differences)}; choose another output directory"
        )
    facts: dict[str, Any] = document["facts"]
    return facts


def _identity(checkpoint: Path) -> dict[str, Any]:
    """What tells one checkpoint from another: its configuration and the size and edges of its weights."""
    config = checkpoint / "config.json"
    if not config.is_file():
        hint = f"; its model is '{checkpoint / MODEL}'" if (checkpoint / MODEL).is_dir() else ""
        raise EdgespecError(f"'{checkpoint}' is no checkpoint: it has no config.json{hint}")
    digest = hashlib.sha256(config.read_bytes())
    for path in sorted(checkpoint.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
            file.seek(max(0, path.stat().st_size - (1 << 20)))
            digest.update(file.read())
    return {"sha256": digest.hexdigest()[:16], "vocabulary": vocabulary.fingerprint(checkpoint)[:16]}
