"""One run: what was asked is checked and written down, measured, and reported. Killed, it goes on from there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError
from edgespec.pair import ModelRecord, Pair, fingerprint_of
from edgespec.profile import Profile, profile_for
from edgespec.progress import SILENT, Progress
from edgespec.sampling import Sampling
from edgespec.staging import require_absent, require_folder, write_atomically

from .cases import cases_of
from .engines import Backend
from .markdown import markdown
from .measurement import Measurement, now
from .page import render_page
from .plan import AUTO, GAMMAS, THRESHOLDS, TUNED, check_gammas, choose_modes, kinds
from .prompts import Suite, load_suite
from .prompts.contamination import split, training_index_of
from .report import build_report
from .rows import DiskFull, Header, Journal, Line, Stop, latest_rows
from .stopping import Limits
from .tables import arms_csv, rows_csv

ROWS, REPORT, PAGE = "rows.jsonl", "report.json", "report.html"
ROWS_CSV, ARMS_CSV, MARKDOWN = "rows.csv", "report.csv", "report.md"


def run_bench(
    pair_dir: str | Path,
    out: str | Path,
    *,
    device: str = "CPU",
    draft_device: str | Sequence[str] | None = None,
    arms: Sequence[str] | None = None,
    gammas: Sequence[int] | None = None,
    thresholds: Sequence[float] | None = None,
    settings: str = "auto",
    prompts: str | Suite = "code",
    contexts: Sequence[int] = (),
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    max_new_tokens: int = 128,
    repetitions: int = 2,
    max_repetitions: int | None = None,
    precision: float = 0.03,
    budget_s: float | None = None,
    sameness: bool = True,
    seed: int = 0,
    answer_timeout_s: float | None = None,
    progress: Progress = SILENT,
    backend: Backend | None = None,
) -> dict[str, Any]:
    """Measure the pair into `out`: rows.jsonl, rows.csv, report.json, .html, .md and .csv; return the report.

    arms: kinds to compare (see plan.kinds); None: plain, and draft and lookup where pair and device have them. gammas:
    for arms that take one (None: 1, 2, 3, 5); thresholds: for `dynamic`. draft_device: one, or several to compare.
    settings: "auto" tries the candidates for plain decoding first, a name fixes one ("tuned": the profile's). contexts:
    tokens in front of each prompt, a set of cases for each length. temperature above 0 samples, with the same seed in
    every arm.
    repetitions: at least; more are measured, up to max_repetitions (None: as many as repetitions), until every interval
    is within `precision` of its speed-up or `budget_s` seconds are spent (see stopping.py).
    sameness: also run every engine under exact settings, and plain in a batch as a control (see control.py).
    `out` must not exist, or hold an unfinished run with the same options, which then goes on.
    An arm that fails leaves rows with its error; only plain decoding must work. Raises EdgespecError.
    """
    device = device.upper()
    draft_devices = [draft_device] if isinstance(draft_device, str) else list(draft_device or [])
    draft_devices = [name.upper() for name in draft_devices]
    backend = backend or Backend.real(device, answer_timeout_s)
    for name, value in (("max_new_tokens", max_new_tokens), ("repetitions", repetitions)):
        if value < 1:
            raise EdgespecError(f"{name} is {value}; it must be at least 1")
    max_repetitions = max(repetitions, max_repetitions or repetitions)
    Limits(precision, max_repetitions, budget_s)
    if seed < 0:
        raise EdgespecError(f"seed is {seed}; it must be 0 or more")
    sampling = Sampling(temperature, top_k, top_p)
    pair = Pair.open(pair_dir)
    suite = prompts if isinstance(prompts, Suite) else load_suite(prompts)
    suite, dropped = _unseen(suite, pair)
    head = pair.manifest.draft is not None and pair.manifest.draft.kind == "eagle3"
    modes, left_out = choose_modes(arms, pair.draft is not None, device, backend.check, not sampling.greedy, head)
    _check_draft_options(modes, gammas, thresholds, draft_devices, backend)
    if settings not in ("auto", TUNED, *backend.candidates):
        raise EdgespecError(
            f"there are no settings '{settings}'; choose auto, {TUNED}, {', '.join(backend.candidates)}"
        )
    profile, remarks = _profile(pair, device, sampling, modes, settings)
    left_out += remarks
    candidates = dict(backend.candidates)
    if settings == TUNED and profile is not None:
        candidates = {"default": {}, TUNED: profile.settings}
    swept = {kinds()[mode].swept for mode in modes}
    header = Header(
        started_at=now(),
        pair=_describe_pair(pair),
        device=device,
        draft_devices=draft_devices,
        modes=list(modes),
        gammas=list(check_gammas(gammas or GAMMAS)) if "gamma" in swept else [],
        thresholds=list(thresholds or THRESHOLDS) if "threshold" in swept else [],
        settings=settings,
        candidates={
            name: dict(values)
            for name, values in candidates.items()
            if settings == name or name not in backend.same_as_default
        },
        tuned=profile.model_dump(mode="json") if profile is not None else None,
        suite=suite.name,
        prompts_sha256=suite.sha256,
        prompt_ids=[prompt.id for prompt in suite.prompts],
        dropped_prompts=dropped,
        cases=len(cases_of(suite.prompts, contexts)),
        contexts=list(contexts),
        sampling={} if sampling.greedy else {"temperature": temperature, "top_k": top_k, "top_p": top_p},
        repetitions=repetitions,
        max_repetitions=max_repetitions,
        precision=precision,
        sameness=sameness,
        budget_s=budget_s,
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
        try:
            Measurement(pair, suite, header, backend, journal, progress).run()
        except DiskFull as full:
            progress.say(
                f"{full}; the report covers what was measured; free some space and repeat the command to go on"
            )
            done = max((row.repetition for row in latest_rows(journal.lines, "measure")), default=-1) + 1
            journal.append(Stop(repetitions=done, reason=str(full), complete=False))
    finally:
        journal.close()
    report = build_report(journal.lines)
    _write(out, report, journal.lines)
    return report


def _write(out: Path, report: dict[str, Any], lines: Sequence[Line]) -> None:
    write_atomically(out / REPORT, json.dumps(report, ensure_ascii=False, allow_nan=False, indent=2) + "\n")
    write_atomically(out / PAGE, render_page(report))
    write_atomically(out / MARKDOWN, markdown(report))
    write_atomically(out / ARMS_CSV, arms_csv(report))
    write_atomically(out / ROWS_CSV, rows_csv(lines))


def _unseen(suite: Suite, pair: Pair) -> tuple[Suite, list[str]]:
    """The suite without the prompts that stand in the draft's training data, and the ids of those."""
    index = training_index_of(pair)
    return split(suite, index) if index else (suite, [])


def _profile(
    pair: Pair, device: str, sampling: Sampling, modes: Sequence[str], settings: str
) -> tuple[Profile | None, list[str]]:
    """The pair's profile for this machine and device where something needs it, and what is to be said of it. Raises
    EdgespecError when the arm `tuned` or the settings of that name need one that there is not, or `tuned` is asked to
    sample in a mode that cannot; `auto` does without, as it does in an app."""
    if not {TUNED, AUTO} & {*modes, settings}:
        return None, []
    profile, reason = profile_for(pair, device)
    what = f"the arm '{TUNED}'" if TUNED in modes else f"the settings '{TUNED}'"
    if profile is None:
        if TUNED in (*modes, settings):
            raise EdgespecError(f"{what} cannot be measured: {reason}")
        return None, [f"The arm '{AUTO}' runs untuned: {reason}."]
    if TUNED in modes and not sampling.greedy and (profile.engine, profile.mode) == ("genai", "draft"):
        raise EdgespecError(
            f"{what} cannot be measured at temperature above 0: its profile is {profile.name}, and "
            "openvino-genai's output would follow the draft there (openvino.genai#4190); leave the arm out"
        )
    said = f"{profile.sentence()}, when it was tuned on {profile.at[:10]}."
    remarks = [f"The arm '{TUNED}' is {said}"] if TUNED in modes else []
    if AUTO in modes:
        remarks.append(f"The arm '{AUTO}' finds the profile {said}")
    return profile, remarks or [f"The settings '{TUNED}' are of the profile {said}"]


def _check_draft_options(
    modes: Sequence[str],
    gammas: Sequence[int] | None,
    thresholds: Sequence[float] | None,
    draft_devices: Sequence[str],
    backend: Backend,
) -> None:
    chosen = [kinds()[mode] for mode in modes]
    if len(set(draft_devices)) < len(draft_devices):
        raise EdgespecError(f"--draft-device names a device twice: {','.join(draft_devices)}")
    for device in draft_devices:
        backend.check(device, "plain")
    for option, value, wanted, arm in (
        ("--gamma", gammas, any(kind.swept == "gamma" for kind in chosen), "draft"),
        ("--threshold", thresholds, any(kind.swept == "threshold" for kind in chosen), "dynamic"),
        ("--draft-device", draft_devices or None, any(kind.drafts for kind in chosen), "draft"),
    ):
        if value is not None and not wanted:
            raise EdgespecError(f"{option} is for the arm '{arm}', which this run does not have; leave it out")


def _open_journal(out: Path, header: Header) -> Journal:
    """A new folder, an empty one, or one with rows of the same run."""
    rows = out / ROWS
    if not rows.is_file() and not (out.is_dir() and not any(out.iterdir())):
        require_absent(out)
        require_folder(out.absolute().parent, out.name)
        out.mkdir()
    return Journal(rows, header)


def _describe_pair(pair: Pair) -> dict[str, Any]:
    """Name, a hash over all files of both models (profiles and history left out), and what the models are."""
    manifest = pair.manifest
    return {
        "name": pair.root.resolve().name,
        "sha256": fingerprint_of(manifest),
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
