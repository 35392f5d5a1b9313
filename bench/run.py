"""One run: plan, settings trial, warm-up, measurement, single passes, report. Killed, it goes on from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import psutil

from edgespec.engine.step import Generation
from edgespec.errors import EdgespecError
from edgespec.machine import on_battery
from edgespec.pair import ModelRecord, Pair
from edgespec.progress import SILENT, Progress, Task
from edgespec.staging import require_absent, require_folder, write_atomically

from . import calibration
from .engines import Backend, EnginePool
from .page import render_page
from .plan import GAMMAS, REFERENCE, Arm, check_gammas, choose_modes, measured_arms, settings_arms
from .prompts import Prompt, Suite, load_suite
from .report import build_report, settings_choice
from .rows import Header, Journal, Passes, Row, Session
from .schedule import Block, blocks
from .sensors import Sensors

ROWS, REPORT, PAGE = "rows.jsonl", "report.json", "report.html"
WARM_UP_PROMPTS = 2
PASS_LENGTHS = (1, 2, 3, 4, 6, 8)


def run_bench(
    pair_dir: str | Path,
    out: str | Path,
    *,
    device: str = "CPU",
    draft_device: str | None = None,
    arms: Sequence[str] | None = None,
    gammas: Sequence[int] | None = None,
    settings: str = "auto",
    prompts: str | Suite = "code",
    max_new_tokens: int = 128,
    repetitions: int = 2,
    seed: int = 0,
    progress: Progress = SILENT,
    backend: Backend | None = None,
) -> dict[str, Any]:
    """Measure the pair and write rows.jsonl, report.json and report.html into `out`; return the report.

    arms: modes to compare; None: plain, and draft and lookup where pair and device have them. gammas: for the draft
    (None: 1, 2, 3, 5). settings: "auto" tries the candidates for plain decoding first, a name fixes one.
    `out` must not exist, or hold an unfinished run with the same options, which then goes on.
    An arm that fails leaves rows with its error; only plain decoding must work. Raises EdgespecError.
    """
    device, draft_device = device.upper(), draft_device.upper() if draft_device else None
    backend = backend or Backend.real(device)
    for name, value in (("max_new_tokens", max_new_tokens), ("repetitions", repetitions)):
        if value < 1:
            raise EdgespecError(f"{name} is {value}; it must be at least 1")
    if seed < 0:
        raise EdgespecError(f"seed is {seed}; it must be 0 or more")
    pair = Pair.open(pair_dir)
    suite = prompts if isinstance(prompts, Suite) else load_suite(prompts)
    has_draft = pair.draft is not None
    modes, left_out = choose_modes(arms, has_draft, device, backend.check)
    _check_draft_options(modes, gammas, draft_device, backend)
    if settings != "auto" and settings not in backend.candidates:
        raise EdgespecError(f"there are no settings '{settings}'; choose auto, {', '.join(backend.candidates)}")
    header = Header(
        started_at=_now(),
        pair=_describe_pair(pair),
        device=device,
        draft_device=draft_device,
        modes=list(modes),
        gammas=list(check_gammas(gammas or GAMMAS)) if "draft" in modes else [],
        settings=settings,
        candidates={
            name: dict(values)
            for name, values in backend.candidates.items()
            if settings == name or name not in backend.same_as_default
        },
        suite=suite.name,
        prompts_sha256=suite.sha256,
        prompt_ids=[prompt.id for prompt in suite.prompts],
        repetitions=repetitions,
        max_new_tokens=max_new_tokens,
        seed=seed,
        machine=dict(backend.machine),
        machine_fingerprint=backend.machine_fingerprint,
        versions=dict(backend.versions),
        notes=left_out,
    )
    out = Path(out)
    journal = _open_journal(out, header)
    for sentence in left_out:
        progress.say(sentence)
    try:
        _Measurement(pair, suite, header, backend, journal, progress).run()
    finally:
        journal.close()
    report = build_report(journal.lines)
    write_atomically(out / REPORT, json.dumps(report, ensure_ascii=False, allow_nan=False, indent=2) + "\n")
    write_atomically(out / PAGE, render_page(report))
    return report


def _check_draft_options(
    modes: Sequence[str], gammas: Sequence[int] | None, draft_device: str | None, backend: Backend
) -> None:
    if "draft" in modes:
        if draft_device is not None:
            backend.check(draft_device, "plain")
        return
    for option, value in (("--gamma", gammas), ("--draft-device", draft_device)):
        if value is not None:
            raise EdgespecError(f"{option} is for the arm 'draft', which this run does not have; leave it out")


def _open_journal(out: Path, header: Header) -> Journal:
    """A new folder, an empty one, or one with rows of the same run."""
    rows = out / ROWS
    if not rows.is_file() and not (out.is_dir() and not any(out.iterdir())):
        require_absent(out)
        require_folder(out.absolute().parent, out.name)
        out.mkdir()
    return Journal(rows, header)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _describe_pair(pair: Pair) -> dict[str, Any]:
    """Name, a hash over all files of both models (profiles and history left out), and what the models are."""
    manifest = pair.manifest
    models = [record.model_dump(mode="json") for record in (manifest.target, manifest.draft) if record]
    content = [manifest.tokenizer, [model["files"] for model in models]]
    return {
        "name": pair.root.resolve().name,
        "sha256": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        "target": _describe_model(manifest.target),
        "draft": _describe_model(manifest.draft) if manifest.draft else None,
    }


def _describe_model(record: ModelRecord) -> dict[str, Any]:
    weights = record.files.get("openvino_model.bin")
    return {
        "source": record.source.id,
        "revision": record.source.revision,
        "architecture": record.architecture,
        "parameters": record.parameters,
        "precision": record.precision,
        "weights_bytes": weights.bytes if weights else None,
    }


class _Measurement:
    """The state of a run: its engines and its journal."""

    def __init__(
        self, pair: Pair, suite: Suite, header: Header, backend: Backend, journal: Journal, progress: Progress
    ) -> None:
        self.pair, self.suite, self.header, self.backend = pair, suite, header, backend
        self.journal, self.progress = journal, progress
        self.pool = EnginePool(pair, header.device, header.draft_device, backend.open_engine)
        self.sensors = Sensors()
        self.began = False
        self.saved_loads = 0

    def run(self) -> None:
        """Measure what the journal lacks."""
        header = self.header
        try:
            if header.settings == "auto":
                self._try_settings()
            choice = settings_choice(self.journal.lines)
            self.progress.say(f"Settings for every arm: {choice.name} ({choice.reason})")
            arms = measured_arms(header.modes, header.gammas, choice.name, header.candidates)
            self.pool.keep(arms)
            self._measure(arms)
            self.pool.close()
            self._passes(next(arm for arm in arms if arm.name == REFERENCE))
        finally:
            self.pool.close()

    def _try_settings(self) -> None:
        arms = settings_arms(self.header.candidates)
        prompts = calibration.trial_prompts(self.suite.prompts)
        todo = self._missing(blocks("settings", arms, prompts, calibration.TRIAL_REPETITIONS, self.header.seed))
        if not todo or len(arms) < 2:
            return
        tokens = min(calibration.TRIAL_TOKENS, self.header.max_new_tokens)
        with self.progress.task(f"trying {len(arms)} plugin settings", total=len(todo) * len(arms)) as task:
            self._warm_up(arms, tokens)
            self._measure_blocks(todo, tokens, task)

    def _measure(self, arms: Sequence[Arm]) -> None:
        header = self.header
        todo = self._missing(blocks("measure", arms, self.suite.prompts, header.repetitions, header.seed))
        if not todo:
            return
        count = len(self.suite.prompts)
        title = f"measuring {len(arms)} arms on {count} prompts, {header.repetitions} times"
        with self.progress.task(title, total=len(todo) * len(arms)) as task:
            self._warm_up(arms, header.max_new_tokens)
            self._measure_blocks(todo, header.max_new_tokens, task)

    def _missing(self, schedule: Iterable[Block]) -> list[Block]:
        """Blocks that are not whole: one that was cut short is measured again, so that its arms stay seconds apart."""
        done = {line.key for line in self.journal.lines if isinstance(line, Row) and line.error is None}
        return [
            block
            for block in schedule
            if any((block.phase, block.prompt.id, arm.name, block.repetition) not in done for arm in block.arms)
        ]

    def _warm_up(self, arms: Sequence[Arm], max_new_tokens: int) -> None:
        """Load every engine and let every arm answer once or twice; plain decoding has to work."""
        self._begin_session()
        for repetition, prompt in enumerate(self.suite.prompts[:WARM_UP_PROMPTS]):
            for order, arm in enumerate(arms):
                row = self._answer("warmup", prompt, arm, repetition, order, max_new_tokens)
                if row.error and arm.settings_name == "default" and arm.mode == "plain":
                    raise EdgespecError(f"plain decoding does not work on {self.header.device}: {row.error}")
                if row.error and arm.name == REFERENCE:
                    raise EdgespecError(f"plain decoding with the settings '{arm.settings_name}' fails: {row.error}")

    def _measure_blocks(self, todo: Sequence[Block], max_new_tokens: int, task: Task) -> None:
        for block in todo:
            for order, arm in enumerate(block.arms):
                self._answer(block.phase, block.prompt, arm, block.repetition, order, max_new_tokens)
                task.advance()

    def _begin_session(self) -> None:
        if self.began:
            return
        self.began = True
        self.journal.append(
            Session(
                session=self.journal.session,
                started_at=_now(),
                rss_bytes=psutil.Process().memory_info().rss,
                on_battery=on_battery(),
            )
        )

    def _answer(self, phase: Any, prompt: Prompt, arm: Arm, repetition: int, order: int, max_new_tokens: int) -> Row:
        """Measure one row and append it. An exception of the engine is the row's error; Ctrl-C passes through."""
        where: dict[str, Any] = {
            "phase": phase,
            "prompt": prompt.id,
            "category": prompt.category,
            "arm": arm.name,
            "repetition": repetition,
            "order": order,
            "session": self.journal.session,
            "started_at": _now(),
        }
        try:
            engine = self.pool.get(arm)
            self._save_loads()
            ids = engine.encode(prompt.text)
            self.sensors.start()
            generation = engine.generate(ids, max_new_tokens, gamma=arm.gamma)
            reading = self.sensors.stop()
            row = Row(**where, **_figures(generation), **vars(reading))
        except Exception as error:
            row = Row(**where, error=_sentence(error))
        self.journal.append(row)
        return row

    def _save_loads(self) -> None:
        for load in self.pool.loads[self.saved_loads :]:
            self.journal.append(load)
        self.saved_loads = len(self.pool.loads)

    def _passes(self, plain: Arm) -> None:
        """Single passes of target and draft, for v(n) and c; a failure is written down and the report does without."""
        done = {line.role for line in self.journal.lines if isinstance(line, Passes) and line.error is None}
        roles: list[tuple[Literal["target", "draft"], str, tuple[int, ...]]] = []
        if any(mode != "plain" for mode in self.header.modes):
            lengths = sorted({*PASS_LENGTHS, *(gamma + 1 for gamma in self.header.gammas)})
            roles.append(("target", self.header.device, tuple(lengths)))
        if "draft" in self.header.modes:
            roles.append(("draft", self.header.draft_device or self.header.device, (1,)))
        missing = [role for role in roles if role[0] not in done]
        if not missing or self.backend.measure_passes is None:
            return
        with self.progress.task("timing single passes", total=len(missing)) as task:
            for role, device, wanted in missing:
                seconds: dict[int, float] = {}
                problem = None
                try:
                    seconds = self.backend.measure_passes(self.pair, role, device, plain.settings, wanted)
                except Exception as error:
                    problem = _sentence(error)
                self.journal.append(Passes(role=role, settings=plain.settings_name, seconds=seconds, error=problem))
                task.advance()


def _figures(generation: Generation) -> dict[str, Any]:
    steps = generation.steps

    def total(seconds: Sequence[float | None]) -> float | None:
        known = [value for value in seconds if value is not None]
        return sum(known) if known and len(known) == len(seconds) else None

    return {
        "wall_s": generation.wall_s,
        "ttft_s": generation.ttft_s,
        "tokens": len(generation.token_ids),
        "token_ids": list(generation.token_ids),
        "emitted": [len(step.tokens) for step in steps],
        "proposed": [step.proposed for step in steps],
        "accepted": [step.accepted for step in steps],
        "draft_s": total([step.draft_s for step in steps[1:]]),
        "verify_s": total([step.verify_s for step in steps[1:]]),
        "finish_reason": generation.finish_reason,
    }


def _sentence(error: Exception) -> str:
    """The first line of an error; the class is named where it is not one of our own sentences."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    return text if isinstance(error, EdgespecError) else f"{type(error).__name__}: {text}"
