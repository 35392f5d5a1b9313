"""edgespec quantize PAIR -o PAIR2"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from ..console import Terminal
from ..errors import EdgespecError
from ..pair import read_manifest
from ..stages import load_stage

CHEAP_BYTES = 2_000_000_000
"""Weights of a pair up to which cost is measured unasked: the uncompressed models have to run for it."""
HELD_OUT, ASKED = 12, 48


def run(
    pair: Annotated[Path, typer.Argument(help="A pair directory as edgespec export made it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The pair directory to make; must not exist.")],
    device: Annotated[str, typer.Option("--for", help="What the pair will run on: cpu, gpu or npu.")] = "cpu",
    target: Annotated[
        str | None,
        typer.Option(
            help="int4, int4_sym, int4_asym, int8, int8_sym, nf4, cb4, fp4, mxfp4, fp8, mxfp8, none. [default: int4]"
        ),
    ] = None,
    draft: Annotated[
        str | None, typer.Option(help="The same for the draft. [default: int8, for an npu int4_sym]")
    ] = None,
    group_size: Annotated[
        int | None, typer.Option(help="Weights that share a scale in int4; -1: a whole row. [default: 128]")
    ] = None,
    group_size_fallback: Annotated[
        str | None, typer.Option(help="Where groups do not divide a row: adjust, ignore, error. [default: adjust]")
    ] = None,
    ratio: Annotated[
        float | None,
        typer.Option(help="Share of the weights in the 4-bit format, the rest in the backup. [default: 1]"),
    ] = None,
    all_layers: Annotated[bool | None, typer.Option(help="Embedding and head in the 4-bit format too.")] = None,
    backup: Annotated[
        str | None, typer.Option(help="Of the rest: int8_asym, int8_sym, fp8_e4m3, mxfp8_e4m3, none.")
    ] = None,
    awq: Annotated[bool | None, typer.Option(help="Scale weights by the activations they meet.")] = None,
    scale_estimation: Annotated[bool | None, typer.Option(help="Fit scales to activations; slow.")] = None,
    gptq: Annotated[
        bool | None, typer.Option(help="Round each weight for the error of those before; very slow.")
    ] = None,
    lora_correction: Annotated[bool | None, typer.Option(help="Add low-rank adapters that make up for error.")] = None,
    sensitivity_metric: Annotated[
        str | None,
        typer.Option(
            help="Which matrices --ratio keeps: weight_quantization_error, hessian_input_activation, "
            "mean_activation_variance, max_activation_variance, mean_activation_magnitude."
        ),
    ] = None,
    draft_group_size: Annotated[int | None, typer.Option(help="--group-size of the draft alone.")] = None,
    draft_group_size_fallback: Annotated[str | None, typer.Option(help="The same, of the draft alone.")] = None,
    draft_ratio: Annotated[float | None, typer.Option(help="The same, of the draft alone.")] = None,
    draft_all_layers: Annotated[bool | None, typer.Option(help="The same, of the draft alone.")] = None,
    draft_backup: Annotated[str | None, typer.Option(help="The same, of the draft alone.")] = None,
    draft_awq: Annotated[bool | None, typer.Option(help="The same, of the draft alone.")] = None,
    draft_scale_estimation: Annotated[bool | None, typer.Option(help="The same, of the draft alone.")] = None,
    draft_gptq: Annotated[bool | None, typer.Option(help="The same, of the draft alone.")] = None,
    draft_lora_correction: Annotated[bool | None, typer.Option(help="The same, of the draft alone.")] = None,
    draft_sensitivity_metric: Annotated[str | None, typer.Option(help="The same, of the draft alone.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Calibration text: a text or .jsonl file, or self (the target writes it).")
    ] = None,
    num_samples: Annotated[int, typer.Option(help="Samples of calibration text.")] = 32,
    sample_tokens: Annotated[int, typer.Option(help="Tokens of a sample.")] = 256,
    upstream_defaults: Annotated[
        bool | None,
        typer.Option(
            help="Use optimum-intel's tuned int4 setting for a target that has one. [default: where text and memory do]"
        ),
    ] = None,
    cost: Annotated[
        bool | None,
        typer.Option(
            help="Measure agreement, KL, perplexity, acceptance; the uncompressed pair has to fit in memory. "
            "[default: for pairs up to 2 GB of weights]"
        ),
    ] = None,
    eval_text: Annotated[
        Path | None,
        typer.Option(
            help="Held-out text for that: text or .jsonl, of which 16 windows of 256 tokens are drawn. "
            "[default: packaged prompts]"
        ),
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Try the device's formats for target and draft, and keep the best pair.")
    ] = False,
    min_agreement: Annotated[
        float | None,
        typer.Option(help="Of --sweep: share of top-1 tokens the winner's target must keep. [default: 0.9]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn: held-out windows, samples, what the target writes.")] = 0,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compress a pair's weights, and say what it cost.

    Options apply to every model whose format takes them; --draft-... to the draft alone. The pair it reads stays as it
    is.
    """
    terminal = Terminal(json_output)
    stage = load_stage("quantize")
    request = stage.Request(
        device=device,
        target=target,
        draft=draft,
        both=stage.Options(
            group_size=group_size,
            fallback=group_size_fallback,
            ratio=ratio,
            all_layers=all_layers,
            backup=backup,
            awq=awq,
            scale_estimation=scale_estimation,
            gptq=gptq,
            lora_correction=lora_correction,
            metric=sensitivity_metric,
        ),
        own={
            "draft": stage.Options(
                group_size=draft_group_size,
                fallback=draft_group_size_fallback,
                ratio=draft_ratio,
                all_layers=draft_all_layers,
                backup=draft_backup,
                awq=draft_awq,
                scale_estimation=draft_scale_estimation,
                gptq=draft_gptq,
                lora_correction=draft_lora_correction,
                metric=draft_sensitivity_metric,
            )
        },
        dataset=dataset,
        samples=num_samples,
        sample_tokens=sample_tokens,
        upstream=upstream_defaults,
        seed=seed,
    )
    if eval_text is not None and cost is False and not sweep:
        raise EdgespecError("--eval-text is for measuring the cost, and --no-cost leaves that out; drop one of them")
    if sweep and cost is not None:
        raise EdgespecError("--sweep measures what every candidate costs; leave out --cost and --no-cost")
    if min_agreement is not None and not sweep:
        raise EdgespecError("--min-agreement chooses the winner of a sweep; add --sweep, or leave it out")
    both = (eval_text, Path(dataset)) if eval_text is not None and dataset is not None else None
    if both is not None and all(path.is_file() for path in both) and both[0].samefile(both[1]):
        raise EdgespecError(
            f"--eval-text and --dataset are both '{eval_text}', and cost is measured on text that no calibration saw; "
            "give another file for one of them"
        )
    held_out = stage.read_texts(eval_text) if eval_text is not None else None
    if sweep:
        texts = held_out or _packaged(stage, pair, held_out=True)
        agreement = stage.MIN_AGREEMENT if min_agreement is None else min_agreement
        _sweep(terminal, stage, pair, output, request, texts, eval_text, agreement)
        return

    weights = _weight_bytes(pair)
    measured = cost if cost is not None else weights <= CHEAP_BYTES
    texts = (held_out or _packaged(stage, pair, held_out=True)) if measured else []

    def measure(before: Any, after: Any, progress: Any) -> Any:
        return stage.measure_cost(before, after, texts, progress, seed=seed)

    made, rows, record = stage.quantize(
        pair,
        output,
        request,
        asks=_packaged(stage, pair, held_out=False),
        measure=measure if measured else None,
        measure_asked=cost is True or eval_text is not None,
        require_text=lambda read: stage.require_held_out(read, texts, eval_text),
        progress=terminal,
    )
    if not measured and cost is None:
        terminal.say(
            f"What it cost in accuracy was not measured: the uncompressed pair has {weights / 1e9:.1f} GB of weights "
            "and would have to run here; --cost asks for it"
        )
    if not json_output:
        _show(terminal, stage, str(made.root), rows, record)
    terminal.answer(
        {
            "pair": str(made.root),
            "models": [asdict(row) for row in rows],
            "seconds": record.seconds,
            "peak_anonymous_bytes": record.peak_anonymous_bytes,
            **{name: value for name, value in record.checks.items() if name != "weights"},
        },
        f"pair ready: {made.root}",
    )


def _weight_bytes(pair: Path) -> int:
    manifest = read_manifest(pair)
    models = [manifest.target, *([manifest.draft] if manifest.draft else [])]
    return sum(file.bytes for model in models for name, file in model.files.items() if name.endswith("_model.bin"))


def _packaged(stage: ModuleType, pair: Path, held_out: bool) -> list[Any]:
    """Packaged prompts, every third of them held out and the others for calibration, so that the two never meet. A chat
    model is asked tasks, another continues code."""
    chat = _has_chat_template(pair / "target")
    prompts = load_stage("bench").load_suite("tasks" if chat else "code").prompts
    mine = [prompt for index, prompt in enumerate(prompts) if (index % 3 == 0) == held_out]
    asks = [stage.Ask(prompt.text, prompt.chat) for prompt in mine]
    return asks[: HELD_OUT if held_out else ASKED]


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        return bool(json.loads((folder / "tokenizer_config.json").read_bytes()).get("chat_template"))
    except (OSError, ValueError):
        return False


def _show(terminal: Terminal, stage: ModuleType, title: str, rows: Any, record: Any) -> None:
    terminal.table(
        title,
        ["model", "before", "after", "smaller", "bits/weight", "weights (matrices)"],
        [
            [
                row.role,
                f"{row.bytes_before / 1e6:,.2f} MB\n{row.precision_before}",
                f"{row.bytes_after / 1e6:,.2f} MB\n{row.precision_after}",
                f"{row.bytes_before / row.bytes_after:.2f}x",
                f"{row.bits_per_weight:.2f}",
                "\n".join(f"{share:.0%} {name} ({row.matrices[name]})" for name, share in row.shares.items()),
            ]
            for row in rows
        ],
    )
    checks = record.checks
    if "quality" in checks:
        terminal.table(
            "Against the uncompressed model, on held-out text",
            ["model", "same top-1 token", "KL, nats/token", "perplexity before", "after"],
            stage.rows_of(checks),
        )
    if "acceptance" in checks:
        _show_acceptance(terminal, stage, checks)
    if "acceptance_unknown" in checks:
        terminal.say(f"Acceptance was not computed: {checks['acceptance_unknown']}")
    peak = checks["compressing_peak_anonymous_bytes"]
    measuring = checks.get("measuring_peak_anonymous_bytes")
    terminal.say(
        f"{record.seconds:.0f} s; at most {peak / 1e9:.2f} GB of own memory while compressing"
        + (f", {measuring / 1e9:.2f} GB while measuring" if measuring is not None else "")
    )


def _show_acceptance(terminal: Terminal, stage: ModuleType, checks: Any) -> None:
    names = {"fp": "uncompressed", "q": "compressed"}
    by_mode = (checks["acceptance"], checks["acceptance_temperature_1"])
    terminal.table(
        f"Speculation, gamma {checks['texts']['gamma']}, {checks['texts']['prompts']} prompts",
        ["target + draft", "greedy: accepted", "tau", "temperature 1: accepted", "tau"],
        [
            [
                " + ".join(names[part] for part in key.split("/")),
                *(word for by in by_mode for word in (_share(by[key]["acceptance_rate"]), _two(by[key]["tau"]))),
            ]
            for key in stage.COMBINATIONS
        ],
    )
    check = checks["check"]
    terminal.say(
        f"Checked by decoding {check['texts']} of the texts greedily for real: acceptance "
        f"{_share(check['decoded']['acceptance_rate'])} and tau {_two(check['decoded']['tau'])}, computed "
        f"{_share(check['computed']['acceptance_rate'])} and {_two(check['computed']['tau'])}"
    )


def _sweep(
    terminal: Terminal,
    stage: ModuleType,
    pair: Path,
    output: Path,
    request: Any,
    texts: list[Any],
    source: Path | None,
    min_agreement: float,
) -> None:
    made, found, plot, record = stage.sweep_pair(
        pair, output, request, asks=texts, source=source, min_agreement=min_agreement, progress=terminal
    )
    winner = next(one for one in found if one.winner)
    if not terminal.json_output:
        _show_sweep(terminal, found)
        if winner.quality.top1 < min_agreement:
            terminal.say(
                f"No format keeps {min_agreement:.0%} of the target's top-1 tokens; the one that keeps most was taken."
            )
        terminal.say(f"plot: {plot.resolve()}")
        terminal.say(f"{record.seconds:.0f} s; at most {record.peak_anonymous_bytes / 1e9:.2f} GB of own memory")
    terminal.answer(
        {
            "pair": str(made.root),
            "winner": winner.label,
            "plot": str(plot),
            "seconds": record.seconds,
            "peak_anonymous_bytes": record.peak_anonymous_bytes,
            **record.checks["sweep"],
        },
        f"pair ready: {made.root} ({winner.label})",
    )


def _show_sweep(terminal: Terminal, found: list[Any]) -> None:
    """The targets, each with its smallest draft, then the pairs that matter: the front, and the best draft of each
    target. Both tables fit 80 columns."""
    targets = {one.target: one for one in sorted(found, key=lambda one: one.bytes, reverse=True)}
    terminal.table(
        "The target by weight format (none: uncompressed)",
        ["target", "MB, pair", "top-1", "KL", "plain ms", "v(2)", "v(4)", "v(6)"],
        [
            [
                one.target,
                f"{one.bytes / 1e6:,.0f}",
                f"{one.quality.top1:.1%}",
                f"{one.quality.kl:.4f}",
                f"{one.plain_ms:.2f}",
                *(f"{one.v[n]:.2f}" for n in (2, 4, 6)),
            ]
            for one in sorted(targets.values(), key=lambda one: one.plain_ms)
        ],
    )
    best = {one.target: one for one in reversed(found)}  # they come fastest first
    shown = [one for one in found if one.on_front or one.winner or one is best[one.target]]
    terminal.table(
        "With a draft, fastest first",
        ["target + draft", "", "gamma", "accepted", "tau", "ms/token", "real"],
        [
            [
                one.label,
                "kept" if one.winner else "front" if one.on_front else "",
                str(one.gamma),
                _share(one.acceptance_rate),
                _two(one.tau),
                f"{one.ms_per_token:.2f}",
                _two(one.decoded_ms_per_token),
            ]
            for one in shown
        ],
    )
    if len(shown) < len(found):
        terminal.say(f"{len(found) - len(shown)} slower combinations are in the plot, the manifest and --json.")
    terminal.say(
        "ms/token = (t(gamma+1) + gamma * draft pass) / tau, from passes timed alone; gamma 0 is plain decoding. real: "
        "the native engine's own clock on a few prompts. front: nothing is faster and closer to the target."
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
