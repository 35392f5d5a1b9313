"""What a tokenizer adds by itself: a prompt that stands alone has it, in both engines, as transformers gives it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgespec import EdgespecError, Pair, SpecPipeline
from edgespec.engine.genai import GenaiEngine
from edgespec.engine.native import NativeEngine
from edgespec.settings import EXACT

TEXTS = ("def add(a, b):\n    return", "naïve 🙂 日本", " x", "<|endoftext|>def")
BOS = 1


def test_both_engines_add_what_transformers_adds(beginning_checkpoint: Path, beginning_pair: Pair) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(beginning_checkpoint)
    for kind in (GenaiEngine, NativeEngine):
        engine = kind(beginning_pair, device="CPU", mode="plain", settings=EXACT)
        for text in TEXTS:
            assert engine.encode(text, special=True) == theirs(text).input_ids
            assert engine.encode(text, special=False) == theirs(text, add_special_tokens=False).input_ids
            assert engine.encode(text)[0] == BOS, "a text stands alone unless it is said not to"
        engine.close()


@pytest.mark.parametrize("mode", ["plain", "native-plain"])
def test_a_raw_prompt_begins_with_it_and_a_chats_template_has_its_own(beginning_pair: Pair, mode: str) -> None:
    with SpecPipeline(beginning_pair, mode=mode, settings=EXACT) as opened:
        words, engine = opened._the_words(), opened._the_engines.opened[0].engine
        ids = words.encode(TEXTS[0], special=True)
        result = opened.generate(TEXTS[0], max_new_tokens=12)
        assert result.metrics.prompt_tokens == len(ids) == len(words.encode(TEXTS[0], special=False)) + 1
        assert result.token_ids == engine.generate(ids, 12).token_ids
        raw = opened.chat(raw=True)
        assert raw.ask(TEXTS[0], max_new_tokens=12).token_ids == result.token_ids
        chat = opened.chat()
        chat.ask("hi", max_new_tokens=2)
        prompt = chat._prompt_ids([{"role": "user", "content": "hi"}])
        assert prompt.count(BOS) == 1 and prompt[0] == BOS, "the template's alone"
        with pytest.raises(EdgespecError, match="the prompt is empty"):
            opened.generate("")


TOGETHER = """
import faulthandler, sys, threading
from pathlib import Path
from edgespec.runtime.text import Words

sys.setswitchinterval(1e-6)
faulthandler.dump_traceback_later(15, exit=True)
words, start, found = Words(Path(sys.argv[1])), threading.Barrier(8), []

def encode():
    start.wait()
    found.append(words.encode("def add"))

threads = [threading.Thread(target=encode) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(found) == 8 and all(ids == found[0] for ids in found)
"""


@pytest.mark.parametrize("run", range(2))
def test_the_first_texts_of_a_process_may_come_from_many_threads_at_once(tiny_pair: Path, run: int) -> None:
    """openvino 2026.4.1 hung in 6 of 8 processes where no thread had looked into a tensor before."""
    command = [sys.executable, "-c", TOGETHER, str(Pair.open(tiny_pair).target)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
