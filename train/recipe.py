"""A recipe: one YAML file that says how a target gets its draft. Keys are strict; what is wrong is named.

    target     a checkpoint to make a draft for, or (with corpus and tokenizer) one that is trained from nothing
    init       the draft's shape
    pretrain   next-token training on text; `continue` goes on from there with other data (code, say)
    generate   the target answers prompts
    align      the draft learns from the answers
    evaluate   acceptance by real speculative decoding, of every draft on the way
    ship       the aligned draft as it is given away

Every section but `target` and `init` may be left out; the stages that are named run in this order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from edgespec.amounts import parse_count
from edgespec.errors import EdgespecError

from .generate.request import EngineName
from .init import Beginning, InitConfig
from .losses import Mix
from .optimizers import OptimizerName
from .precision import Wanted
from .schedule import Shape as ScheduleShape
from .shapes import Head, Shape
from .timed import Budget
from .timed import Schedule as TimedSchedule


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CorpusSection(Section):
    """Source text that this installation holds. sources: the most characters taken from each."""

    heldout_share: float = Field(gt=0, lt=0.5)
    sources: dict[str, int]


class TokenizerSection(Section):
    vocab_size: int = Field(gt=256)


class Phase(Section):
    """A stretch of the target's own training: `minutes` of wall clock or `steps`, at a depth; `peak` multiplies the
    default learning rates."""

    layers: int = Field(ge=1)
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

    def schedule(self) -> TimedSchedule:
        rates = TimedSchedule()
        return TimedSchedule(rates.lr_matrices * self.peak, rates.lr_rest * self.peak, self.warmup, self.decay)


class TargetSection(Section):
    """checkpoint: a folder, a hub id, or `bundled`. Without one, a Llama of this shape is trained on the corpus."""

    checkpoint: str | None = None
    hidden: int | None = None
    ffn: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    context: int = 1024
    phases: list[Phase] = []

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        shape = (self.hidden, self.ffn, self.heads, self.kv_heads)
        if self.checkpoint is not None:
            if self.phases or any(part is not None for part in shape):
                raise ValueError("give either a checkpoint or a shape with phases, not both")
            return self
        if not self.phases or self.hidden is None or self.heads is None or self.kv_heads is None or self.ffn is None:
            raise ValueError("give a checkpoint, or hidden, ffn, heads, kv_heads and phases of a target to train")
        depths = [phase.layers for phase in self.phases]
        if depths != sorted(depths):
            raise ValueError(f"layers can only grow from phase to phase, not go {depths}")
        if self.hidden % self.heads or self.heads % self.kv_heads:
            raise ValueError("hidden must be a multiple of heads, and heads of kv_heads")
        return self


class InitSection(Section):
    """The draft's first form, as edgespec train init takes it. shape: LAYERSxHIDDEN; params: such as 50M; one of them.
    from_target: scratch (random weights), copy (chosen layers as they are) or project (the same, made narrower).
    layers: which ones, evenly spread unless given. head: tied to the embedding, untied, or as the target's."""

    shape: str | None = None
    params: str | None = None
    from_target: Beginning = "scratch"
    layers: list[int] | None = None
    head: Head = "target"

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.shape is None) == (self.params is None):
            raise ValueError("give either shape (LAYERSxHIDDEN) or params (such as 50M)")
        self.config(0)
        return self

    def config(self, seed: int) -> InitConfig:
        """Raises ValueError for what cannot be a draft."""
        try:
            return InitConfig(
                shape=Shape.parse(self.shape) if self.shape else None,
                parameters=parse_count(self.params, "params") if self.params else None,
                beginning=self.from_target,
                layers=tuple(self.layers) if self.layers else None,
                head=self.head,
                seed=seed,
            )
        except EdgespecError as error:
            raise ValueError(str(error)) from error


class Source(Section):
    """source: `corpus` (the recipe's own), a file, a folder, or a hub id; weight: its share of the tokens, relative to
    the others'. field: a table's column of text; subset, split: of a hub dataset."""

    source: str
    weight: float = Field(gt=0, default=1.0)
    field: str = "text"
    subset: str | None = None
    split: str = "train"


class Steps(Section):
    """Training by the loop. tokens: the budget; batch: rows of `length` tokens a step. Evaluated in service every
    `evaluate_every` steps (0: at the end only)."""

    tokens: int = Field(gt=0)
    batch: int = Field(ge=1, default=16)
    micro_batch: int | None = Field(ge=1, default=None)
    length: int = Field(ge=2, default=512)
    learning_rate: float = Field(gt=0, default=1e-3)
    schedule: ScheduleShape = "wsd"
    warmup: float = Field(ge=0, le=1, default=0.02)
    decay: float = Field(ge=0, le=1, default=0.3)
    optimizer: OptimizerName = "adamw"
    weight_decay: float = Field(ge=0, default=0.1)
    precision: Wanted = "auto"
    compiled: bool = False
    checkpoint_every: int = Field(ge=1, default=500)
    evaluate_every: int = Field(ge=0, default=0)

    def steps(self) -> int:
        """Optimizer steps that the budget pays for."""
        return max(1, self.tokens // (self.batch * self.length))


class PretrainSection(Steps):
    data: list[Source] = Field(min_length=1)


class GenerateSection(Section):
    """prompts: `corpus` (prefixes of the recipe's own text), `self` (Magpie), a file, or hf:NAME[:SPLIT]; count: how
    many are answered at most. shortest, longest: of prefixes of the corpus, in tokens."""

    prompts: str
    count: int = Field(ge=1)
    column: str | None = None
    shortest: int = Field(ge=1, default=48)
    longest: int = Field(ge=1, default=192)
    max_new_tokens: int = Field(ge=1, default=256)
    temperatures: list[float] = Field(min_length=1, default=[0.0, 0.6, 0.8, 1.0])
    each: bool = False
    top_p: float = Field(gt=0, le=1, default=1.0)
    engine: EngineName = "openvino"
    device: str = "CPU"
    top_k_logits: int | None = Field(ge=1, default=None)
    shard: int = Field(ge=1, default=512)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.longest < self.shortest:
            raise ValueError(f"longest ({self.longest}) must be at least shortest ({self.shortest})")
        return self


class AlignSection(Steps):
    """loss: as in `0.5*ce + 0.5*kl`. online: the target is asked at every step; else what generate cached is read.
    share: of rows of `data` (default: pretrain's) in a batch."""

    loss: str = "ce"
    online: bool = False
    share: float = Field(ge=0, lt=1, default=0.1)
    heldout: float = Field(ge=0, lt=0.5, default=0.02)
    data: list[Source] = []

    @field_validator("loss")
    @classmethod
    def _loss(cls, text: str) -> str:
        try:
            Mix.parse(text)
        except EdgespecError as error:
            raise ValueError(str(error)) from error
        return text


class EvaluateSection(Section):
    """prompts: a suite that `edgespec prompts list` names, or a JSONL file; in_training: how many of them the draft is
    tried on while it is trained."""

    prompts: str = "code"
    gamma: int = Field(ge=1, default=3)
    temperatures: list[float] = Field(min_length=1, default=[0.6, 0.0])
    max_new_tokens: int = Field(ge=2, default=128)
    samples: int = Field(ge=1, default=1)
    in_training: int = Field(ge=1, default=6)


class ShipSection(Section):
    """index: whether hashes of the training text lie beside the draft, so that a bench can leave seen prompts out."""

    index: bool = True


class Recipe(Section):
    seed: int = 0
    corpus: CorpusSection | None = None
    tokenizer: TokenizerSection | None = None
    target: TargetSection
    init: InitSection
    pretrain: PretrainSection | None = None
    continue_: PretrainSection | None = Field(default=None, alias="continue")
    generate: GenerateSection | None = None
    align: AlignSection | None = None
    evaluate: EvaluateSection | None = None
    ship: ShipSection | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.target.phases and (self.corpus is None or self.tokenizer is None):
            raise ValueError("a target trained from nothing needs the sections corpus and tokenizer")
        if self.tokenizer is not None and not self.target.phases:
            raise ValueError("the section tokenizer belongs to a target trained from nothing; a checkpoint has its own")
        if self.continue_ and not self.pretrain:
            raise ValueError("continue goes on from pretrain, which is missing")
        if self.align and not self.generate:
            raise ValueError("align needs the section generate: what the target wrote is what it learns from")
        known = self.align and self.generate and (self.align.online or self.generate.top_k_logits)
        if self.align and Mix.parse(self.align.loss).needs_target and not known:
            raise ValueError(
                f"the loss '{self.align.loss}' needs the target's distribution: set align.online, or "
                "generate.top_k_logits"
            )
        if self.align and self.align.share and not self.alignment_data():
            raise ValueError("align.share needs data: give align.data, a section pretrain, or share: 0")
        if self.ship and not (self.align or self.pretrain):
            raise ValueError("ship needs a draft that was trained: give pretrain or align")
        sources = [part.source for part in self._data()]
        if self.corpus is None and ("corpus" in sources or (self.generate and self.generate.prompts == "corpus")):
            raise ValueError("'corpus' is named as a source and there is no section corpus")
        return self

    def _data(self) -> list[Source]:
        return [part for section in (self.pretrain, self.continue_, self.align) if section for part in section.data]

    def alignment_data(self) -> list[Source]:
        """What is mixed into alignment: its own data, else the last pretraining's."""
        if self.align and self.align.data:
            return self.align.data
        last = self.continue_ or self.pretrain
        return last.data if last else []

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Raises EdgespecError naming the key that is unknown, missing or out of range."""
        try:
            content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise EdgespecError(f"the recipe '{path}' cannot be read: {error}") from error
        if not isinstance(content, dict):
            raise EdgespecError(f"the recipe '{path}' is no mapping of sections; see train/recipes for examples")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise EdgespecError(f"the recipe '{path}': {_sentence(error)}") from error

    def written(self) -> dict[str, Any]:
        """As a YAML file would have it."""
        return self.model_dump(by_alias=True, exclude_none=True)


def _sentence(error: ValidationError) -> str:
    """The first thing that is wrong: where, what, and for an unknown key the ones there are."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        known = _keys(first["loc"][:-1])
        message = f"unknown key; choose {', '.join(known)}" if known else "unknown key"
    elif first["type"] == "missing":
        message = "this key is missing"
    return f"{where}: {message}" if where else message


def _keys(path: tuple[int | str, ...]) -> list[str]:
    """Keys of the section at `path`."""
    model: Any = Recipe
    for part in path:
        if isinstance(part, int):
            continue
        found = next((f for name, f in model.model_fields.items() if part in (name, f.alias)), None)
        kinds = [] if found is None else [found.annotation, *getattr(found.annotation, "__args__", ())]
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if model is None:
            return []
    return [field.alias or name for name, field in model.model_fields.items()]
