"""What training says of itself: metrics.csv, a row a step, and evaluations.csv, a row a figure measured now and then.

Both are cut back to the checkpoint when a run goes on, so a curve has each step once.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgespec.staging import write_atomically

METRICS = "metrics.csv"
EVALUATIONS = "evaluations.csv"
_STEP = ("step", "tokens", "seconds", "learning_rate", "gradient_norm", "loss")


class MetricsLog:
    """Appends to the two files in `folder`; a row is on the disk (flushed) when its call returns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: list[str] | None = None

    def resume(self, step: int) -> None:
        """Keep rows of steps up to and including `step` only; 0: none."""
        for name in (METRICS, EVALUATIONS):
            path = self._folder / name
            if not path.is_file():
                continue
            if step == 0:
                path.unlink()
                continue
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",", 1)[0]) <= step]
            write_atomically(path, "".join([lines[0], *kept]))
            if name == METRICS:
                self._names = next(csv.reader([lines[0]]))

    def step(
        self,
        step: int,
        *,
        tokens: int,
        seconds: float,
        learning_rate: float,
        gradient_norm: float,
        loss: float,
        metrics: Mapping[str, float],
    ) -> None:
        """One optimizer step, counted from 1. Floats are written so that reading them gives the same bits."""
        row = {
            "step": step,
            "tokens": tokens,
            "seconds": round(seconds, 3),
            "learning_rate": repr(learning_rate),
            "gradient_norm": repr(gradient_norm),
            "loss": repr(loss),
            **{name: repr(value) for name, value in metrics.items()},
        }
        if self._names is None:
            self._names = [*_STEP, *metrics]
            self._append(METRICS, self._names)
        self._append(METRICS, [str(row.get(name, "")) for name in self._names])

    def evaluation(self, step: int, tokens: int, figures: Mapping[str, float | None]) -> None:
        """Figures measured after `step`; None where one is unknown."""
        if not (self._folder / EVALUATIONS).is_file():
            self._append(EVALUATIONS, ["step", "tokens", "name", "value"])
        for name, value in figures.items():
            self._append(EVALUATIONS, [str(step), str(tokens), name, "" if value is None else repr(value)])

    def _append(self, name: str, row: Sequence[str]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(row)
        with (self._folder / name).open("a", encoding="utf-8", newline="\n") as file:
            file.write(line.getvalue())


def read_curve(folder: Path, name: str = "loss") -> list[tuple[int, float]]:
    """(step, value) of a column of metrics.csv, or of a name in evaluations.csv."""
    with (folder / METRICS).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and name in rows[0]:
        return [(int(row["step"]), float(row[name])) for row in rows if row[name]]
    path = folder / EVALUATIONS
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            (int(row["step"]), float(row["value"]))
            for row in csv.DictReader(file)
            if row["name"] == name and row["value"]
        ]
