"""A pipeline over the tiny pair, and one that chats: compiled once a session."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from gating import Gate

from edgespec import SpecPipeline
from edgespec.runtime.answering import Answering
from edgespec.settings import EXACT

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture(scope="session")
def pipeline(tiny_pair: Path) -> Iterator[SpecPipeline]:
    """Exact settings, so that every mode gives the same greedy answer."""
    with SpecPipeline(tiny_pair, device="CPU", settings=EXACT) as opened:
        yield opened


@pytest.fixture(scope="session")
def chat_pair(
    tmp_path_factory: pytest.TempPathFactory, tiny_target_checkpoint: Path, tiny_draft_checkpoint: Path
) -> Path:
    """The tiny pair from checkpoints whose tokenizer has a chat template."""
    import shutil

    from edgespec.export import export_pair

    folder = tmp_path_factory.mktemp("chatting")
    for role, checkpoint in (("target", tiny_target_checkpoint), ("draft", tiny_draft_checkpoint)):
        shutil.copytree(checkpoint, folder / role)
        path = folder / role / "tokenizer_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(config | {"chat_template": TEMPLATE}), encoding="utf-8")
    return export_pair(folder / "target", folder / "draft", folder / "pair").root


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    held, take, steps = Gate(), Answering._take, dict[int, int]()

    def take_and_hold(self: Answering, tokens: Sequence[int], flags: Sequence[bool]) -> None:
        take(self, tokens, flags)
        steps[id(self)] = steps.get(id(self), 0) + 1
        if steps[id(self)] == held.step and not held.opened.is_set():
            held.hold(self)

    monkeypatch.setattr(Answering, "_take", take_and_hold)
    yield held
    held.opened.set()
