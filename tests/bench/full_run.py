"""The lines of a run that has everything a report can show: two engines, six tasks, turns, contexts, a second draft
device, a control. Times follow from a small model of passes and acceptance; every draw is seeded."""

from __future__ import annotations

import random
from typing import Any

from edgespec.bench.plan import Arm, measured_arms
from edgespec.bench.rows import Bandwidth, Header, Line, Load, Passes, Row, Session, Stop

TASKS = {"chat": 0.62, "coding": 0.78, "maths": 0.70, "retrieval": 0.66, "summary": 0.72, "translation": 0.45}
COPIES = {"chat": 0.1, "coding": 0.35, "maths": 0.2, "retrieval": 0.5, "summary": 0.6, "translation": 0.05}
TARGET_S, DRAFT_S = 0.030, 0.0024
SLOW_DEFAULT = 1.45


def header(of_a_task: int = 4, **changes: Any) -> Header:
    prompts = [f"{task}-{i:02}" for task in TASKS for i in range(of_a_task)]
    contexts = changes.get("contexts", [1024, 4096, 8192])
    values: dict[str, Any] = {
        "started_at": "2026-11-21T10:00:00.000+00:00",
        "pair": {
            "name": "llama-1b-int4",
            "sha256": "ab" * 32,
            "target": {
                "source": "meta-llama/Llama-3.2-1B-Instruct", "parameters": 1_235_814_400, "precision": "int4_sym",
                "weights_bytes": 711_000_000,
            },
            "draft": {
                "source": "drafts/4x384", "parameters": 58_200_000, "precision": "int8_asym",
                "weights_bytes": 58_900_000,
            },
        },
        "device": "CPU",
        "draft_devices": ["CPU", "GPU"],
        "modes": ["plain", "control", "draft", "dynamic", "lookup", "native-draft", "native-recycling"],
        "gammas": [1, 2, 3, 5],
        "thresholds": [0.4],
        "settings": "auto",
        "candidates": {"default": {}, "f32": {"INFERENCE_PRECISION_HINT": "f32"}, "f16": {"KV_CACHE_PRECISION": "f16"}},
        "suite": "tasks",
        "prompts_sha256": "cd" * 32,
        "prompt_ids": prompts,
        "dropped_prompts": ["coding-09", "coding-11"],
        "cases": len(prompts) * (len(contexts) or 1),
        "contexts": contexts,
        "repetitions": 2,
        "max_repetitions": 6,
        "precision": 0.03,
        "max_new_tokens": 64,
        "seed": 0,
        "machine": {
            "cpu": "Scripted CPU", "physical_cores": 8, "logical_cores": 16, "memory_bytes": 32 << 30,
            "os": "Scripted OS",
        },
        "machine_fingerprint": "0123",
        "versions": {"edgespec": "0.2.0", "openvino": "2026.4.1"},
    }  # fmt: skip
    return Header(**(values | changes))


def full_run(turns: int = 2, energy: bool = False, **changes: Any) -> list[Line]:
    """turns: of a chat. energy: whether the machine tells what it uses. changes: of the header."""
    head = header(**changes)
    arms = measured_arms(head, "f32")
    draw = random.Random(3)
    lines: list[Line] = [head, Session(session=1, started_at=head.started_at, on_battery=False)]
    lines += _trial(head)
    for key in dict.fromkeys(arm.engine_key for arm in arms):
        lines.append(Load(engine="/".join(key), settings=key[2], load_s=4.0, rss_after_bytes=1_150_000_000))
    for repetition in range(head.repetitions):
        for context in head.contexts or [None]:
            for prompt in head.prompt_ids:
                for turn in range(1, 1 + (turns if prompt.startswith("chat") else 1)):
                    busy = draw.random() < 0.03
                    for order, arm in enumerate(draw.sample(arms, len(arms))):
                        row = _row(arm, prompt, turn, context, repetition, energy)
                        more = {
                            "order": order,
                            "attempt": int(busy),
                            "cpu_mhz": draw.gauss(2900, 60),
                            "temperature_c": draw.gauss(71, 3),
                            "other_load": abs(draw.gauss(0.02, 0.01)),
                        }
                        if busy and order == 2:
                            more["disturbed"] = "other programs took 31% of the processor"
                        lines.append(row.model_copy(update=more))
    reason = "the widest 95 % interval is native-recycling's, ±6.1%; more repetitions would hardly narrow it"
    lines.append(Stop(repetitions=head.repetitions, reason=reason))
    for role, seconds in (
        ("target", {n: TARGET_S * _cost(n) for n in (1, 2, 3, 4, 6, 8)}),
        ("draft", {1: DRAFT_S, 2: DRAFT_S * 1.1}),
    ):
        lines.append(Passes(role=role, device="CPU", settings="f32", context=4700, seconds=seconds))  # type: ignore[arg-type]
    return [*lines, Bandwidth(bytes_per_second=31.4e9)]


def _trial(head: Header) -> list[Line]:
    rows: list[Line] = []
    for name in head.candidates:
        seconds = {"default": SLOW_DEFAULT, "f32": 1.0, "f16": 1.2}[name]
        for prompt in head.prompt_ids[:4]:
            ids = list(range(48)) if name != "f16" else [*range(10), *range(100, 138)]
            rows.append(_base("settings", Arm(f"plain-{name}", "plain"), prompt, 1, None, 0, ids, seconds))
    return rows


def _cost(n: float) -> float:
    """v(n)"""
    return 1 + 0.045 * (n - 1)


def _row(arm: Arm, prompt: str, turn: int, context: int | None, repetition: int, energy: bool) -> Row:
    """One answer. Acceptance belongs to arm and case, so it is the same in every repetition, as greedy decoding is."""
    task = prompt.partition("-")[0]
    fixed = random.Random(f"{arm.name}/{prompt}/{turn}/{context}")
    noisy = random.Random(f"{arm.name}/{prompt}/{turn}/{context}/{repetition}")
    total, first = 64, 0.0004 * (context or 400) * (1.0 if arm.engine == "genai" else 1.04)
    long = 1 + (context or 400) / 20_000
    single = TARGET_S * long * (SLOW_DEFAULT if arm.settings_name == "default" else 1.0)
    emitted, proposed, accepted, draft_s, verify_s, wall = [1], [0], [0], 0.0, 0.0, first
    chance = min(0.95, max(0.02, fixed.gauss(TASKS[task], 0.05)))
    if arm.mode in ("lookup", "recycling"):
        chance = min(0.9, max(0.02, fixed.gauss(COPIES[task] * (0.8 if arm.mode == "lookup" else 1.0), 0.12)))
    while sum(emitted) < total:
        gamma = 0 if arm.plain else arm.gamma or (fixed.choice([1, 2, 3, 4, 6]) if arm.mode == "draft" else 5)
        kept = next((i for i in range(gamma) if fixed.random() > chance), gamma)
        kept = min(kept, total - sum(emitted) - 1)
        with_model = arm.mode == "draft"
        drafting = gamma * (DRAFT_S if arm.draft_device != "GPU" else 0.0034) if with_model else 0.0002 * bool(gamma)
        target = single * _cost(gamma + 1)
        overhead = 0.0 if arm.plain else 0.0011 if arm.engine == "genai" else 0.0017
        emitted, proposed, accepted = [*emitted, kept + 1], [*proposed, gamma], [*accepted, kept]
        draft_s, verify_s, wall = draft_s + drafting, verify_s + target, wall + drafting + target + overhead
    slowdown = noisy.lognormvariate(0, 0.025)
    tells = arm.engine == "native"
    unknown: list[int | None] = [None] * len(emitted)
    base = _base("measure", arm, prompt, turn, context, repetition, _words(arm, prompt, total), wall * slowdown)
    return base.model_copy(
        update={
            "ttft_s": first * slowdown,
            "emitted": emitted,
            "proposed": unknown if arm.mode == "lookup" else proposed,
            "accepted": unknown if arm.mode == "lookup" else accepted,
            "draft_s": draft_s * slowdown if tells else None,
            "verify_s": verify_s * slowdown if tells else None,
            "prompt_tokens": context or 400,
            "peak_rss_bytes": 1_200_000_000 + 90_000_000 * (arm.mode == "draft") + 60_000_000 * tells,
            "energy_j": wall * 18 if energy else None,
        }
    )


def _words(arm: Arm, prompt: str, total: int) -> list[int]:
    """The same of every arm, but for one near tie."""
    ids = [(7 * i) % (23 if prompt.startswith("summary") else 997) for i in range(total)]
    if arm.mode == "draft" and prompt in ("maths-01", "chat-02"):
        ids[40:] = [token + 1 for token in ids[40:]]
    return ids


def _base(
    phase: Any, arm: Arm, prompt: str, turn: int, context: int | None, repetition: int, ids: list[int], seconds: float
) -> Row:
    case = prompt + (f"#{turn}" if turn > 1 else "") + (f"@{context}" if context else "")
    return Row(
        phase=phase, case=case, prompt=prompt, category=prompt.partition("-")[0], turn=turn, context=context,
        arm=arm.name, repetition=repetition, order=0, session=1, started_at="2026-11-21T10:31:01.000+00:00",
        wall_s=seconds, ttft_s=seconds / 10, tokens=len(ids), token_ids=ids, emitted=[1] * len(ids),
        proposed=[0] * len(ids), accepted=[0] * len(ids), finish_reason="length", rss_bytes=1_100_000_000,
    )  # fmt: skip
