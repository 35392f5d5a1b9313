"""What is asked of the target, what it answers, and what a writer is: the contract between engines and shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

EngineName = Literal["openvino", "transformers", "vllm"]
Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Request:
    """One answer to be written. index: its place in the whole set. temperature 0 is greedy; seed is what a draw of this
    request alone starts from, where the engine has such a thing."""

    index: int
    prompt_ids: tuple[int, ...]
    temperature: float
    top_p: float
    seed: int
    max_new_tokens: int
    task: str = ""


@dataclass(frozen=True)
class Answer:
    """Token ids the target wrote, the end of text among them when it wrote one, and why it ended."""

    token_ids: list[int]
    finish: Finish


@dataclass(frozen=True)
class Written:
    """A request with its answer, as it lies in a shard. The texts are for people; training reads the ids."""

    index: int
    task: str
    prompt: str
    answer: str
    prompt_ids: list[int]
    answer_ids: list[int]
    temperature: float
    top_p: float
    finish: Finish


class Writer(Protocol):
    """A target that answers. `name` is the engine's; `seeded`: the same requests in one call give the same answers
    again, in this process or another; `concurrent`: how many requests a call should bring."""

    name: str
    seeded: bool
    concurrent: int

    def write(self, requests: Sequence[Request]) -> list[Answer]:
        """Answers in the order of the requests."""

    def close(self) -> None:
        """Free the target."""


def per_request_seed(seed: int, index: int) -> int:
    """A seed of 31 bits for request `index` of a set: neighbours share nothing (splitmix64's finaliser)."""
    mask = (1 << 64) - 1
    state = (seed * 0x9E3779B97F4A7C15 + index + 1) & mask
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = ((state ^ (state >> shift)) * factor) & mask
    return (state ^ (state >> 31)) & 0x7FFFFFFF
