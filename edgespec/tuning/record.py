"""What a tune has measured, so that one that was interrupted is not begun from nothing.

A lead is a ratio of two answers that were seconds apart, so it holds when the tune goes on later; a day is taken as the
limit, since machines change. Only the last part of a tune, whose figures the profile states, is always measured anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..staging import write_atomically

SCHEMA = 1
KEPT_FOR_S = 24 * 3600.0
Key = tuple[str, str, str]
"""Reference, arm and prompt, by name."""


@dataclass(frozen=True)
class Answer:
    """One answer of an arm. context: tokens it stood behind in the middle; tpot_s: None for a single token."""

    ids: tuple[int, ...]
    wall_s: float
    tpot_s: float | None
    context: int


@dataclass
class Record:
    """file: None keeps nothing. leads: measured in this tune. known: in one before it; each is handed out once."""

    file: Path | None = None
    now: Callable[[], float] = time.time
    leads: dict[Key, float] = field(default_factory=dict)
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    known: dict[Key, float] = field(default_factory=dict)

    @classmethod
    def at(cls, file: Path | None, now: Callable[[], float] = time.time) -> Record:
        """With what an interrupted tune left in `file`, where that can be read and is of the last day."""
        record = cls(file, now)
        try:
            found = json.loads(file.read_bytes()) if file else {}
            if found.get("schema") == SCHEMA and 0 <= now() - found["at"] <= KEPT_FOR_S:
                record.known = {(str(r), str(a), str(p)): float(lead) for r, a, p, lead in found["leads"]}
                record.answers = {(str(a), str(p)): _answer(fields) for a, p, fields in found["answers"]}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(file, now)
        return record

    def recall(self, key: Key) -> float | None:
        """The lead that is known from before, if there is one; it counts as measured from here on."""
        lead = self.known.pop(key, None)
        if lead is not None:
            self.leads[key] = lead
        return lead

    def save(self) -> bool:
        """Keep everything for the next tune; whether there was anything, and a place for it."""
        leads = {**self.known, **self.leads}
        if self.file is None or not leads:
            return False
        document = {
            "schema": SCHEMA,
            "at": self.now(),
            "leads": [[*key, lead] for key, lead in leads.items()],
            "answers": [[*key, vars(answer)] for key, answer in self.answers.items()],
        }
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.file, json.dumps(document))
        except OSError:
            return False
        return True

    def forget(self) -> None:
        """The tune came to its end."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)


def _answer(fields: Mapping[str, Any]) -> Answer:
    return Answer(tuple(fields["ids"]), fields["wall_s"], fields["tpot_s"], fields["context"])
