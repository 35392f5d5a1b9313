"""Conversations: what is kept, what a template does to it, and the terminal's chat."""

from __future__ import annotations

import _thread
import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gating import Gate
from rich.console import Console
from rich.text import Text

from edgespec import EdgespecError, SpecPipeline
from edgespec.cli import main
from edgespec.commands.chat import Conversation
from edgespec.console import Terminal
from edgespec.runtime import Piece


def test_a_raw_chat_is_one_growing_text(pipeline: SpecPipeline) -> None:
    chat = pipeline.chat(raw=True)
    first = chat.ask("def add", max_new_tokens=6)
    second = chat.ask("\nclass", max_new_tokens=6)
    assert second.token_ids == pipeline.generate("def add" + first.text + "\nclass", max_new_tokens=6).token_ids
    assert [message["content"] for message in chat.messages] == ["def add", first.text, "\nclass", second.text]
    chat.forget()
    assert chat.messages == () and chat.ask("def add", max_new_tokens=6).token_ids == first.token_ids


def test_a_model_without_a_template_says_so(pipeline: SpecPipeline) -> None:
    assert not pipeline.has_chat_template
    with pytest.raises(EdgespecError, match="this model has no chat template"):
        pipeline.chat().ask("hello")
    with pytest.raises(EdgespecError, match="the message is empty"):
        pipeline.chat(raw=True).ask("")
    with pytest.raises(EdgespecError, match="a message has a role and a content"):
        pipeline.chat(messages=[{"text": "hello"}])


def test_a_turn_that_runs_while_its_conversation_is_forgotten_stays_out_of_the_new_one(
    pipeline: SpecPipeline, gate: Gate
) -> None:
    chat = pipeline.chat(raw=True)
    running, waiting = chat.stream("def add", max_new_tokens=6), chat.stream("\nclass", max_new_tokens=6)
    assert gate.reached.wait(60)
    chat.forget()
    gate.opened.set()
    texts = [list(stream)[-1].text for stream in (running, waiting)]
    assert chat.messages == ()
    expected = pipeline.generate("def add" + texts[0] + "\nclass", max_new_tokens=6).text
    assert texts[1] == expected, "what was asked for before still continues from the old conversation"


def test_a_template_is_applied_and_stopped_turns_are_kept(chat_pair: Path, gate: Gate) -> None:
    with SpecPipeline(chat_pair) as opened:
        assert opened.has_chat_template
        chat = opened.chat("be brief")
        gate.step = 3
        answer = chat.ask("hi", max_new_tokens=1)
        same = opened.generate("system: be brief\nuser: hi\nassistant: ", max_new_tokens=1)
        assert answer.token_ids == same.token_ids
        stream = chat.stream("more", max_new_tokens=400)
        assert gate.reached.wait(60)
        opened.stop()
        gate.opened.set()
        list(stream)
        assert stream.result is not None and stream.result.finish_reason == "cancelled"
        assert [message["role"] for message in chat.messages] == ["system", "user", "assistant", "user", "assistant"]
        assert chat.messages[-1]["content"] == stream.result.text
        queued = [chat.stream(text, max_new_tokens=3) for text in ("a", "b")]
        results = [list(stream)[-1] for stream in queued]
        assert [message["content"] for message in chat.messages[-4:]] == ["a", results[0].text, "b", results[1].text]
        chat.forget()
        assert chat.messages == ({"role": "system", "content": "be brief"},)


def test_the_terminal_marks_the_drafts_tokens_and_tells_figures(
    pipeline: SpecPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = io.StringIO()
    out = Console(file=screen, force_terminal=True, color_system="standard", highlight=False, soft_wrap=True)
    talk = Conversation(pipeline.chat(raw=True), pipeline, Terminal(), {"max_new_tokens": 8}, show_draft=True, out=out)
    talk._show(Piece("drafted", (1,), (True,)))
    talk._show(Piece("own", (2,), (False,)))
    assert "\x1b[36mdrafted\x1b[0mown" in screen.getvalue()
    talk.run(["/stats", "def add", "/stats", "/draft", "/new", "/nothing", "/help", "/explain", "/exit", "never read"])
    told = capsys.readouterr().err
    assert "nothing was answered yet" in told and "last answer: 8 tokens" in told and "conversation: 1 answers" in told
    assert "tokens of the draft are not marked" in told and "there is no command /nothing" in told
    assert "the conversation is forgotten" in told and "leave; so does the end of input" in told
    assert "governor of native-hybrid" in told
    assert len(talk.results) == 1 and talk.results[0].text in Text.from_ansi(screen.getvalue()).plain


def test_the_command_talks_over_standard_input(
    tiny_pair: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("def add\n/stats\nclass\n"))
    arguments = ["edgespec", "chat", str(tiny_pair), "--raw", "--max-new-tokens", "4", "--json"]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as leave:
        main()
    assert leave.value.code == 0
    document = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert [message["role"] for message in document["messages"]] == ["user", "assistant"] * 2
    assert len(document["answers"]) == 2 and document["answers"][0]["metrics"]["mode"] == "native-hybrid"
    monkeypatch.setattr("sys.argv", ["edgespec", "chat", str(tiny_pair)])
    with pytest.raises(SystemExit) as leave:
        main()
    assert leave.value.code == 2 and "has no chat template" in capfd.readouterr().err


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as in a terminal: a test run that was started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_stops_the_answer_and_not_the_program(
    pipeline: SpecPipeline, gate: Gate, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pressed while the next piece is waited for, whatever the pace: a Ctrl-C in the middle of printing one cuts it."""
    gate.step = 3
    talk = Conversation(pipeline.chat(raw=True), pipeline, Terminal(), {"max_new_tokens": 400}, show_draft=False)
    printed_ids: queue.SimpleQueue[int] = queue.SimpleQueue()
    show = talk._show

    def show_and_count(piece: Piece) -> None:
        show(piece)
        printed_ids.put(len(piece.token_ids))

    monkeypatch.setattr(talk, "_show", show_and_count)

    def interrupt() -> None:
        assert gate.reached.wait(60)
        seen = 0
        while seen < gate.handed:
            seen += printed_ids.get(timeout=60)
        _thread.interrupt_main()

    pressing = threading.Thread(target=interrupt)
    pressing.start()
    talk.run(["def add"])
    pressing.join()
    gate.opened.set()
    talk._options = {"max_new_tokens": 4}
    talk.run(["\nclass", "/stats"])
    stopped, later = talk.results
    assert stopped.finish_reason == "cancelled" and stopped.token_ids == gate.tokens
    assert later.finish_reason == "length"
    printed = capsys.readouterr()
    assert stopped.text in printed.out and "conversation: 2 answers" in printed.err
    assert [message["content"] for message in talk.document()["messages"]][1] == stopped.text


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_a_pipe_is_utf_8_whatever_the_code_page(tiny_pair: Path, bom: bytes) -> None:
    """As on Windows, whose pipes are in a legacy code page until they are told otherwise."""
    said = "naïve 🙂 日本"
    code = "import sys; from edgespec.cli import main; main()"
    arguments = ["chat", str(tiny_pair), "--raw", "--max-new-tokens", "6", "--mode", "native-plain"]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}

    def chat(*more: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-c", code, *arguments, *more]
        return subprocess.run(command, input=bom + f"{said}\n/stats\n".encode(), capture_output=True, env=environment)

    done = chat("--json")
    assert done.returncode == 0, done.stderr.decode()
    document = json.loads(done.stdout.decode("utf-8").splitlines()[-1])
    assert document["messages"][0]["content"] == said
    assert "last answer: 6 tokens" in done.stderr.decode("utf-8").replace("\n", " ")
    answer = document["messages"][1]["content"]
    if not bom:
        assert answer.strip() in chat().stdout.decode("utf-8")
