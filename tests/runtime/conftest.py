"""A pipeline over the tiny pair, and one that chats: compiled once a session."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgespec import SpecPipeline
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
