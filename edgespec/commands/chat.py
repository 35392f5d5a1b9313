"""edgespec chat PAIR"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ..console import Terminal, read_utf8
from ..errors import EdgespecError
from ..runtime import Chat, Options, Piece, Result, SpecPipeline, Stream

COMMANDS = {
    "/stats": "figures of the last answer and of the conversation",
    "/draft": "show tokens of the draft in another colour, or no longer",
    "/new": "forget the conversation",
    "/explain": "how it is decided what runs where",
    "/help": "this list",
    "/exit": "leave; so does the end of input (Ctrl-D, on Windows Ctrl-Z)",
}
DRAFTED = "cyan"


def run(
    pair: Annotated[Path, typer.Argument(help="A pair directory.")],
    device: Annotated[str, typer.Option(help="AUTO, CPU, GPU, NPU, ... (see: edgespec devices)")] = "AUTO",
    draft_device: Annotated[str | None, typer.Option(help="The draft's device, where it is another.")] = None,
    mode: Annotated[str, typer.Option(help="auto, plain, draft, lookup, native-draft, native-copy, ...")] = "auto",
    system: Annotated[str | None, typer.Option(help="What the model is told before the conversation.")] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="No chat template: the conversation is one growing text (for base models).")
    ] = False,
    show_draft: Annotated[
        bool, typer.Option("--show-draft", help="Tokens that came from the draft in another colour.")
    ] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of an answer at most.")] = 512,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Keep the likeliest tokens of this mass; 1: all.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampling.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document at the end.")] = False,
) -> None:
    """Talk with a pair in the terminal, streaming; /help lists what can be asked of it.

    Ctrl-C stops an answer. Messages are lines of standard input.
    """
    read_utf8()
    terminal = Terminal(json_output)
    with terminal.task(f"loading {pair.name}"):
        pipeline = SpecPipeline(pair, device=device, draft_device=draft_device, mode=mode)
    options = Options(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)
    with pipeline:
        if not raw and not pipeline.has_chat_template:
            raise EdgespecError(
                f"'{pair}' has no chat template: it is a model that continues text; use edgespec chat {pair} --raw, "
                "or edgespec generate"
            )
        talk = Conversation(pipeline.chat(system, raw=raw), pipeline, terminal, options, show_draft, quiet=json_output)
        talk.run(_lines(prompt=sys.stdin.isatty() and not json_output))
        terminal.answer(talk.document())


class Conversation:
    """Messages in, pieces out, and the figures kept for /stats."""

    def __init__(
        self,
        chat: Chat,
        pipeline: SpecPipeline,
        terminal: Terminal,
        options: Options,
        show_draft: bool,
        *,
        quiet: bool = False,
        out: Console | None = None,
    ) -> None:
        """quiet: answers are not printed, only told at the end (--json)."""
        self._chat = chat
        self._pipeline = pipeline
        self._terminal = terminal
        self._options = options
        self._show_draft = show_draft
        self._quiet = quiet
        self._out = out or Console(highlight=False, soft_wrap=True)
        self.results: list[Result] = []
        self._commands: dict[str, Callable[[], None]] = {
            "/stats": self._stats,
            "/draft": self._toggle,
            "/new": self._new,
            "/explain": lambda: terminal.say(str(pipeline.explain())),
            "/help": lambda: terminal.say("\n".join(f"{name}: {does}" for name, does in COMMANDS.items())),
        }

    def run(self, lines: Iterable[str]) -> None:
        for line in lines:
            message = line.rstrip("\r\n")
            command = message.strip()
            if command == "/exit":
                return
            if command in self._commands:
                self._commands[command]()
            elif command.startswith("/") and " " not in command and len(command) > 1:
                self._terminal.say(f"there is no command {command}; /help lists them")
            elif command:
                self._answer(message)

    def _answer(self, message: str) -> None:
        """Print what comes. Ctrl-C stops the answer and not the program; what it said until then stays."""
        stream: Stream | None = None
        while True:
            try:
                stream = stream or self._chat.stream(message, **self._options)
                for item in stream:
                    if isinstance(item, Piece):
                        self._show(item)
                break
            except KeyboardInterrupt:
                self._pipeline.stop()
                if stream is None:
                    return
            except EdgespecError as error:
                self._terminal.say(f"error: {error}")
                return
        if stream is not None and stream.result is not None:
            self.results.append(stream.result)
        if not self._quiet:
            self._out.print()

    def _show(self, piece: Piece) -> None:
        if self._quiet:
            return
        drafted = self._show_draft and piece.drafted > 0
        self._out.print(Text(piece.text, style=DRAFTED if drafted else ""), end="")
        self._out.file.flush()

    def _toggle(self) -> None:
        self._show_draft = not self._show_draft
        self._terminal.say(f"tokens of the draft are {'shown in ' + DRAFTED if self._show_draft else 'not marked'}")

    def _new(self) -> None:
        self._chat.forget()
        self._terminal.say("the conversation is forgotten")

    def _stats(self) -> None:
        if not self.results:
            self._terminal.say("nothing was answered yet")
            return
        last = self.results[-1].metrics
        accepted = "" if last.acceptance_rate is None else f", {last.acceptance_rate:.0%} of proposals accepted"
        tau = "" if last.tau is None else f", tau {last.tau:.2f}"
        self._terminal.say(
            f"last answer: {len(self.results[-1].token_ids)} tokens ({last.draft_tokens} from the draft) behind "
            f"{last.prompt_tokens}, {last.tokens_per_second:.1f} tokens/s, first after {last.ttft_ms or 0:.0f} ms"
            f"{tau}{accepted}; mode {last.mode} on {last.device} ({last.why})"
        )
        tokens = sum(len(result.token_ids) for result in self.results)
        seconds = sum(result.metrics.wall_ms for result in self.results) / 1e3
        pace = tokens / seconds if seconds else 0.0  # no time at all: stopped before it began
        self._terminal.say(f"conversation: {len(self.results)} answers, {tokens} tokens, {pace:.1f} tokens/s")

    def document(self) -> dict[str, Any]:
        return {
            "messages": list(self._chat.messages),
            "answers": [
                {"text": one.text, "finish_reason": one.finish_reason, "metrics": asdict(one.metrics)}
                for one in self.results
            ],
        }


def _lines(prompt: bool) -> Iterable[str]:
    """Lines of standard input; Ctrl-C at the prompt leaves."""
    if not prompt:
        yield from sys.stdin
        return
    while True:
        try:
            yield input("> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return
