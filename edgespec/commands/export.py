"""edgespec export TARGET -o PAIR"""

from __future__ import annotations

import gc
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import Terminal
from ..errors import EdgespecError
from ..pair import Made, Manifest, ModelRecord, Pair, Role, write_manifest
from ..resources import PeakMemory
from ..stages import load_stage
from ..staging import SCRATCH_MARK, remove_folder, replace, require_absent, require_folder, staged_directory


def run(
    target: Annotated[str, typer.Argument(help="A Hugging Face checkpoint: its directory, or its hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The pair directory to make; must not exist.")],
    draft: Annotated[
        str | None, typer.Option(help="The draft: directory or hub id, of the same vocabulary, or an EAGLE-3 head.")
    ] = None,
    early_exit: Annotated[
        int | None, typer.Option(help="Instead of a draft: the target's own first N layers, with its norm and head.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="The weights' type: fp16, bf16, fp32; auto keeps bf16 and makes all else fp16.")
    ] = "auto",
    weights: Annotated[
        str | None,
        typer.Option(help="Go straight to compressed weights, such as int4 or int8 (see: edgespec quantize)."),
    ] = None,
    draft_weights: Annotated[
        str | None, typer.Option(help="The same for the draft. [default: what the device's preset says]")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--for", help="What the compressed pair will run on: cpu, gpu or npu. [default: cpu]")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the target on the hub.")] = None,
    draft_revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the draft on the hub.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code the checkpoint brings; a hub id needs a full commit.")
    ] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read pickled weights where there are no safetensors.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hold the models against PyTorch on probe prompts, and refuse what is off.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """A Hugging Face checkpoint, with or without a draft, to an OpenVINO pair directory.

    Compress it at once with --weights int4, or afterwards with: edgespec quantize PAIR -o PAIR2
    """
    terminal = Terminal(json_output)
    options: dict[str, Any] = {
        "dtype": dtype,
        "early_exit": early_exit,
        "revision": revision,
        "draft_revision": draft_revision,
        "trust_remote_code": trust_remote_code,
        "allow_pickle": allow_pickle,
        "verify": verify,
        "progress": terminal,
    }
    if weights is None:
        if draft_weights is not None or device is not None:
            raise EdgespecError(
                "--draft-weights and --for are for a pair that is compressed at once; add --weights int4"
            )
        pair = load_stage("export").export_pair(target, draft, output, **options)
    else:
        has_draft = draft is not None or early_exit is not None
        if draft_weights is not None and not has_draft:
            raise EdgespecError("--draft-weights got a format and there is no draft; leave it out")
        formats = {"target": weights, "draft": draft_weights, "device": device or "cpu"}
        pair = _export_compressed(target, draft, output, options, formats, terminal)
    show_pair(terminal, pair)


def _export_compressed(
    target: str, draft: str | None, output: Path, options: dict[str, Any], formats: dict[str, Any], terminal: Terminal
) -> Pair:
    """Export, compress, and delete the uncompressed pair, all in one staging directory beside `output`."""
    export, quantize = load_stage("export"), load_stage("quantize")
    request = quantize.Request(**formats)
    quantize.check_request(request)
    require_absent(output)
    require_folder(output.absolute().parent, output.name)
    started = time.perf_counter()

    def foresee(models: Any) -> int:
        return int(quantize.foresee(models, request))

    references: dict[Role, Any] = {}  # what PyTorch computes, with --verify
    with PeakMemory() as peak, staged_directory(output, progress=terminal) as staged:
        uncompressed, small = staged / f"{SCRATCH_MARK}whole", staged / f"{SCRATCH_MARK}small"
        export.export_pair(target, draft, uncompressed, foresee=foresee, references=references, **options)
        compressed, _ = quantize.quantize_pair(uncompressed, small, whole=True, progress=terminal, **formats)
        made: Manifest = compressed.manifest
        gc.collect()  # Windows removes no file that a model of quantize's still maps
        verified: dict[Role, Any] = {}
        for role, reference in references.items():
            record = {"target": made.target, "draft": made.draft}[role]
            if record is not None:
                with terminal.task(f"comparing the compressed {role} with PyTorch"):
                    verified[role] = asdict(export.hold(reference, small / role, record.precision))
        remove_folder(uncompressed)  # what is held open is tried again at the end, and then told of
        for path in sorted(small.iterdir(), key=lambda path: path.is_file()):
            replace(path, staged / path.name)  # the manifest last
        step = _as_one(made.made, formats, time.perf_counter() - started, peak)
        if verified:
            step = step.model_copy(update={"checks": step.checks | {"verify_compressed": verified}})
        manifest = made.model_copy(update={"made": [step]})
        write_manifest(staged, manifest)
    return Pair(output, manifest)


def _as_one(steps: list[Made], formats: dict[str, Any], seconds: float, peak: PeakMemory) -> Made:
    """The steps as the one command that was typed: the directories in between are gone, and so not named."""
    words = [steps[0].command, "--weights", str(formats["target"])]
    words += ["--draft-weights", str(formats["draft"])] if formats["draft"] is not None else []
    words += ["--for", str(formats["device"])]
    versions: dict[str, str] = {}
    checks: dict[str, Any] = {}
    for step in steps:
        versions |= step.versions
        checks |= step.checks
    return steps[-1].model_copy(
        update={
            "command": " ".join(words),
            "versions": versions,
            "checks": checks,
            "seconds": round(seconds, 1),
            "peak_anonymous_bytes": peak.anonymous_bytes,
        }
    )


def show_pair(terminal: Terminal, pair: Pair) -> None:
    """The table and the JSON document of a pair that was made: what each model is, and what was compared."""
    made = pair.manifest.made
    checks: dict[str, Any] = {}
    for step in made:
        checks |= step.checks
    peak = max((step.peak_anonymous_bytes or 0 for step in made), default=0)
    models = {"target": pair.manifest.target, "draft": pair.manifest.draft}
    if not terminal.json_output:
        columns = ["model", "architecture", "weights", "precision", "size", "tokenizer"]
        comparisons = [checks[name] for name in ("verify", "verify_compressed") if checks.get(name)]
        for name, when in (("verify", ", before compression"), ("verify_compressed", ", compressed")):
            if checks.get(name):
                when = when if "weights" in checks else ""
                columns += [f"as PyTorch (top-1){when}", f"largest difference (allowed){when}"]
        terminal.table(
            str(pair.root),
            columns,
            [_row(role, model, checks, comparisons) for role, model in models.items() if model is not None],
        )
        seconds = sum(step.seconds or 0 for step in made)
        terminal.say(f"{seconds:,.0f} s, at most {peak / 1e9:.2f} GB of anonymous memory")
    document: dict[str, Any] = {
        role: None
        if model is None
        else {
            "source": model.source.model_dump(),
            "kind": model.kind,
            "layers": model.layers,
            "architecture": model.architecture,
            "parameters": model.parameters,
            "vocab_size": model.vocab_size,
            "precision": model.precision,
            "bytes": _bytes(model),
        }
        for role, model in models.items()
    }
    document |= {"checks": checks, "peak_anonymous_bytes": peak or None}
    terminal.answer(
        {"pair": str(pair.root), "tokenizer": pair.manifest.tokenizer, **document}, f"pair ready: {pair.root}"
    )


def _row(role: str, model: ModelRecord, checks: dict[str, Any], comparisons: list[dict[str, Any]]) -> list[str]:
    parity = checks.get("tokenizer", {}).get(role)
    shares = model.kind in ("early_exit", "eagle3")
    tokenizer = "as transformers'" if parity else "the target's" if shares else "not compared"
    if parity and parity["differences"]:
        tokenizer = f"{len(parity['differences'])} of {parity['asked']} answers differ"
    kind = {"eagle3": "\nEAGLE-3 head", "early_exit": f"\nfirst {model.layers} layers"}.get(model.kind, "")
    row = [
        role,
        f"{model.architecture}{kind}",
        f"{model.parameters / 1e6:,.1f} M",
        model.precision,
        f"{_bytes(model) / 1e6:,.1f} MB",
        tokenizer,
    ]
    for comparison in comparisons:
        found = comparison.get(role)
        row += (
            [f"{found['top1']:.1%}", f"{found['relative']:.2g} of the largest logit ({found['bound']:.2g})"]
            if found
            else ["", ""]
        )
    return row


def _bytes(model: ModelRecord) -> int:
    return sum(file.bytes for file in model.files.values())
