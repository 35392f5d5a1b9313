"""The terminal: progress and tables go to stderr, the answer to stdout; with --json stdout ends in one JSON line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from .progress import SilentTask, Task


class Terminal:
    """A `Progress` on stderr, and a command's two ways to answer: tables for people, one JSON document for programs."""

    def __init__(self, json_output: bool = False) -> None:
        self.json_output = json_output
        self.stderr = Console(stderr=True, highlight=False)
        self._bar: RichProgress | None = None

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[Task]:
        """Show one line while the block runs; on a stream that is no terminal, one plain line at its start."""
        if not self.stderr.is_terminal:
            self.stderr.print(description, markup=False)
            yield SilentTask()
            return
        if self._bar is not None:  # nested: a line below the outer one
            yield _BarTask(self._bar, description, total)
            return
        with RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=self.stderr,
            transient=False,
        ) as bar:
            self._bar = bar
            try:
                yield _BarTask(bar, description, total)
            finally:
                self._bar = None

    def say(self, message: str) -> None:
        self.stderr.print(message, markup=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table on stderr; the first column is left-aligned, the others right."""
        table = Table(title=Text(title), title_justify="left", title_style="bold")
        for index, column in enumerate(columns):
            table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        self.stderr.print(table)

    def answer(self, document: Mapping[str, Any], text: str | None = None) -> None:
        """The command's result: `document` as one JSON line with --json, else `text` (nothing when None)."""
        if self.json_output:
            print(json.dumps(document, ensure_ascii=False, allow_nan=False), flush=True)
        elif text is not None:
            print(text, flush=True)


class _BarTask:
    def __init__(self, bar: RichProgress, description: str, total: float | None) -> None:
        self._bar = bar
        self._id = bar.add_task(description, total=total)

    def advance(self, amount: float = 1) -> None:
        self._bar.advance(self._id, amount)

    def describe(self, description: str) -> None:
        self._bar.update(self._id, description=description)


def read_utf8() -> None:
    """Take what is piped into standard input as UTF-8, with or without a byte order mark, where Windows would take a
    legacy code page. A terminal knows its own encoding. Bytes that are no UTF-8 are replaced."""
    reconfigure = getattr(sys.stdin, "reconfigure", None)
    if reconfigure is not None and not sys.stdin.isatty():
        reconfigure(encoding="utf-8-sig", errors="replace")


def force_utf8() -> None:
    """Make stdout and stderr able to print any model's text (Windows consoles default to a legacy code page)."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="replace")
