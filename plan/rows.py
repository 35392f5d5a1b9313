"""What was measured, a line each, flushed as it comes: an interrupted plan goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError
from edgespec.staging import write_atomically

ROWS = "measured.jsonl"
Key = tuple[str | float | int, ...]
VERSION = 6
"""Of how rows are measured: raised when that changes, so that older rows are refused. 2: runs stand behind as long a
context as passes. 3: passes are timed between the runs. 4: answers are decoded by turns. 5: passes are timed between
the turns. 6: steps are medians."""


class Rows:
    """Values by key, in a file. The first line says of what; another plan's file is refused."""

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, fresh: bool = False) -> None:
        """Read what is there; nothing is written yet. fresh: what is there is replaced at the first `add`."""
        self._path = folder / ROWS
        self._identity = {**identity, "way of measuring": VERSION}
        self._found: dict[Key, Any] = {}
        self._append = False
        if not fresh and self._path.is_file():
            self._read()

    def __contains__(self, key: Key) -> bool:
        return key in self._found

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: Key) -> Any:
        return self._found.get(key)

    def under(self, *start: str | float | int) -> list[Any]:
        """Values whose key begins so, in the order they were measured."""
        return [value for key, value in self._found.items() if key[: len(start)] == start]

    def add(self, key: Key, value: Any) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"key": key, "value": value}) + "\n"
        if self._append:
            with self._path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(line)
        else:  # what was read once more, whole, before anything is added behind it
            read = [{"of": self._identity}, *({"key": k, "value": v} for k, v in self._found.items())]
            write_atomically(self._path, "".join(json.dumps(each) + "\n" for each in read) + line)
            self._append = True
        self._found[key] = value

    def _read(self) -> None:
        lines = self._path.read_text(encoding="utf-8").splitlines()
        documents = []
        for number, line in enumerate(lines):
            try:
                documents.append(json.loads(line))
            except ValueError as error:
                if number < len(lines) - 1:  # the last one may be half of one, of a run that was killed
                    raise EdgespecError(
                        f"line {number + 1} of '{self._path}' is not JSON; add --fresh to measure anew"
                    ) from error
        if not documents:
            return
        of = documents[0].get("of")
        if of != self._identity:
            differing = [name for name, value in self._identity.items() if (of or {}).get(name) != value]
            raise EdgespecError(
                f"'{self._path}' holds measurements of another plan (another {', '.join(differing) or 'kind'}); choose "
                "another --out, or add --fresh to measure anew"
            )
        self._found = {tuple(document["key"]): document["value"] for document in documents[1:]}
