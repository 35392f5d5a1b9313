"""rows.jsonl: everything a run measured, one line at a time, so that a killed run loses one row at most.

The first line is the run's header; then come sessions (a run that was resumed has several), loads, rows, and what was
measured once: passes, bandwidth, sameness. The file only grows: a block that a kill cut short or another program
disturbed is measured again, and of rows with the same key the last counts.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edgespec.engine.step import Step
from edgespec.errors import EdgespecError

SCHEMA = "edgespec.bench.rows/2"
BALLAST_BYTES = 8_000_000
"""Room for a report and its page, which carries the report inside."""
Key = tuple[str, str, str, int]


class DiskFull(EdgespecError):
    """No room for further lines; what was measured is kept."""


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Header(_Line):
    """What was asked of a run, of what, and where. A run goes on only under the same header (see IDENTITY)."""

    phase: Literal["header"] = "header"
    schema_name: str = SCHEMA
    started_at: str
    pair: dict[str, Any]
    device: str
    draft_devices: list[str] = []
    modes: list[str]
    gammas: list[int]
    thresholds: list[float] = []
    settings: str
    candidates: dict[str, dict[str, Any]]
    tuned: dict[str, Any] | None = None
    suite: str
    prompts_sha256: str
    prompt_ids: list[str]
    dropped_prompts: list[str] = []
    cases: int
    contexts: list[int] = []
    sampling: dict[str, Any] = {}
    repetitions: int
    max_repetitions: int
    precision: float
    sameness: bool = True
    budget_s: float | None = None
    max_new_tokens: int
    seed: int
    machine: dict[str, Any]
    machine_fingerprint: str
    versions: dict[str, str]
    notes: list[str] = []


IDENTITY: dict[str, Callable[[Header], Any]] = {
    "another rows schema": lambda header: header.schema_name,
    "another pair": lambda header: header.pair["sha256"],
    "another device": lambda header: header.device,
    "another draft device": lambda header: header.draft_devices,
    "other arms": lambda header: header.modes,
    "other gammas": lambda header: [header.gammas, header.thresholds],
    "other settings": lambda header: [header.settings, header.candidates],
    "another tuned profile": lambda header: header.tuned,
    "other prompts": lambda header: [header.prompts_sha256, header.dropped_prompts],
    "other lengths of context": lambda header: header.contexts,
    "other sampling": lambda header: header.sampling,
    "another number of repetitions": lambda header: [header.repetitions, header.max_repetitions],
    "another precision or budget": lambda header: [header.precision, header.budget_s],
    "another length of answers": lambda header: header.max_new_tokens,
    "other checks": lambda header: header.sameness,
    "another seed": lambda header: header.seed,
    "another machine": lambda header: header.machine_fingerprint,
    "other versions of the software": lambda header: header.versions,
}


class Session(_Line):
    """One process that measured."""

    phase: Literal["session"] = "session"
    session: int
    started_at: str
    on_battery: bool | None = None


class Load(_Line):
    """One engine that was loaded, and how its process grew by it."""

    phase: Literal["load"] = "load"
    engine: str
    settings: str
    load_s: float
    rss_before_bytes: int | None = None
    rss_after_bytes: int | None = None


class Passes(_Line):
    """Median seconds by n, of one target pass over n tokens behind `context` others, and of n draft passes in a row;
    `error` says why there are none. device: the one it ran on. repetition: the round after which it was measured.
    in_a_row: False in older files, where the draft's are of one pass over n tokens."""

    phase: Literal["passes"] = "passes"
    role: Literal["target", "draft"]
    device: str
    settings: str
    context: int
    seconds: dict[int, float]
    error: str | None = None
    repetition: int = 0
    in_a_row: bool = False


class Bandwidth(_Line):
    """What the device reads at best, measured beside the run; None and the reason where that failed."""

    phase: Literal["bandwidth"] = "bandwidth"
    bytes_per_second: float | None = None
    error: str | None = None


class Gap(_Line):
    """A first difference between an arm's answer and plain's, and how far plain's token is ahead (see control.py)."""

    arm: str
    case: str
    position: int
    logit_gap: float


class Sameness(_Line):
    """What the checks beside the timed rows found. control_matched, control_total: plain's answers of repetition 0 that
    plain in a batch repeats token for token; None where it could not be run, and `error` says why."""

    phase: Literal["sameness"] = "sameness"
    control_matched: int | None = None
    control_total: int | None = None
    gaps: list[Gap] = []
    error: str | None = None


class Stop(_Line):
    """Why the measurement ended where it did."""

    phase: Literal["stop"] = "stop"
    repetitions: int
    reason: str
    complete: bool = True


class Row(_Line):
    """One answer of one arm to one prompt. Times in seconds by the engine's own clock, without tokenization.

    case, prompt: see cases.Case. order: place in its block; attempt: 0, then up when its block was measured again.
    emitted, proposed, accepted: per target pass, the prefill first; None inside where the back end does not tell.
    draft_s, verify_s: sums over the passes after the prefill. disturbed: by what, in words; None: by nothing known.
    error: why there is no answer, with every figure then None.
    """

    phase: Literal["settings", "warmup", "history", "measure", "exact"]
    case: str
    prompt: str
    category: str
    turn: int = 1
    context: int | None = None
    arm: str
    repetition: int
    order: int
    attempt: int = 0
    session: int
    started_at: str
    wall_s: float | None = None
    ttft_s: float | None = None
    prompt_tokens: int | None = None
    tokens: int | None = None
    token_ids: list[int] = []
    emitted: list[int] = []
    proposed: list[int | None] = []
    accepted: list[int | None] = []
    draft_s: float | None = None
    verify_s: float | None = None
    finish_reason: Literal["stop", "length"] | None = None
    rss_bytes: int | None = None
    peak_rss_bytes: int | None = None
    energy_j: float | None = None
    cpu_mhz: float | None = None
    temperature_c: float | None = None
    other_load: float | None = None
    disturbed: str | None = None
    error: str | None = None

    @property
    def key(self) -> Key:
        return self.phase, self.case, self.arm, self.repetition

    @property
    def steps(self) -> list[Step]:
        """The engine's records again, for edgespec.engine.step's figures (seconds are kept as sums only)."""
        steps, start = [], 0
        for emitted, proposed, accepted in zip(self.emitted, self.proposed, self.accepted, strict=True):
            steps.append(Step(tuple(self.token_ids[start : start + emitted]), proposed, accepted))
            start += emitted
        return steps


Line = Annotated[Header | Session | Load | Passes | Bandwidth | Sameness | Stop | Row, Field(discriminator="phase")]
_LINES: TypeAdapter[Line] = TypeAdapter(Line)


class Journal:
    """rows.jsonl, open for appending. Every line is flushed: what was measured survives a kill of this process.

    Beside it lies a file of BALLAST_BYTES that gives its room back when the disk is full, so that the line at hand, the
    reason and the report can still be written; DiskFull is raised then.
    """

    def __init__(self, path: Path, header: Header) -> None:
        """Start the file, or go on with the one that is there.

        A last line that was torn by a kill is dropped. Raises EdgespecError when the file cannot be read or belongs to
        a run with another header.
        """
        self.lines = _recover(path) if path.exists() else []
        if self.lines:
            _require_same_run(path, self.lines[0], header)
        self.session = 1 + sum(isinstance(line, Session) for line in self.lines)
        self._path = path
        self._ballast = path.with_name(".room")
        if not self._ballast.exists():
            self._ballast.write_bytes(bytes(BALLAST_BYTES))
        self._file: IO[bytes] = path.open("ab", buffering=0)
        if not self.lines:
            self.append(header)

    def append(self, line: Line) -> None:
        """Raises DiskFull, with the line written all the same where the ballast made room for it."""
        content = json.dumps(line.model_dump(mode="json"), ensure_ascii=False, allow_nan=False) + "\n"
        whole = self._path.stat().st_size
        try:
            self._write(content.encode())
        except OSError as error:
            if error.errno != errno.ENOSPC or not self._ballast.exists():
                raise
            self._ballast.unlink()
            self._file.close()
            with self._path.open("r+b") as file:
                file.truncate(whole)
            self._file = self._path.open("ab", buffering=0)
            self._write(content.encode())
            self.lines.append(line)
            raise DiskFull(f"the disk is full at '{self._path.parent}'") from error
        self.lines.append(line)

    def _write(self, content: bytes) -> None:
        view = memoryview(content)
        while view:  # an unbuffered write may take a part, before it says why not the rest
            view = view[self._file.write(view) :]

    @property
    def header(self) -> Header:
        assert isinstance(self.lines[0], Header)
        return self.lines[0]

    def rows(self, phase: str) -> list[Row]:
        return latest_rows(self.lines, phase)

    def close(self) -> None:
        self._file.close()
        self._ballast.unlink(missing_ok=True)


def latest_rows(lines: Iterable[Line], phase: str) -> list[Row]:
    """Rows of a phase; of rows with the same key the last one, at its own place in time."""
    rows: dict[Key, Row] = {}
    for line in lines:
        if isinstance(line, Row) and line.phase == phase:
            rows.pop(line.key, None)
            rows[line.key] = line
    return list(rows.values())


def read_lines(path: Path) -> list[Line]:
    """Every whole line of a rows file; the torn end that a kill may leave is passed over. Raises EdgespecError."""
    return _parse(path, _whole(path.read_bytes()))


def _whole(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def _recover(path: Path) -> list[Line]:
    content = path.read_bytes()
    whole = _whole(content)
    lines = _parse(path, whole)
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return lines


def _parse(path: Path, content: bytes) -> list[Line]:
    lines: list[Line] = []
    for number, text in enumerate(content.splitlines(), start=1):
        try:
            lines.append(_LINES.validate_json(text))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            raise EdgespecError(
                f"'{path}', line {number} cannot be read: {where}: {first['msg']}; choose another --out"
            ) from error
    if lines and not isinstance(lines[0], Header):
        raise EdgespecError(f"'{path}' does not start with a run's header; choose another --out")
    return lines


def _require_same_run(path: Path, found: Line, wanted: Header) -> None:
    assert isinstance(found, Header)
    differences = [name for name, identity in IDENTITY.items() if identity(found) != identity(wanted)]
    if differences:
        raise EdgespecError(
            f"'{path.parent}' holds a run of {_listed(differences)}; choose another --out, or repeat that run's "
            "options to go on with it"
        )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
