"""Make a pair of calibrated twins, ready for bench, tune and plan, and show that it accepts what was asked for.

A twin has the exact shape of a model, random weights and an acceptance that is set; its figures hold for that shape and
are no figures of the model it is named after. Its answers are meaningless. Examples:

    python examples/make_twin_pair.py llama-3.2-1b 4x384 --vocab 32000 --alpha 0.8 -o twin-1b
    python examples/make_twin_pair.py path/to/config.json qwen3-0.6b --alpha 0.7 --target-format int8_sym -o twin-8b

TARGET and DRAFT: LAYERSxHIDDEN, a config.json, or a name in edgespec.plan.SHAPES. Beside the pair lies
PAIR-prompts.jsonl, for `edgespec bench --prompts`: an answer of a twin follows from the prompt's last token alone, so
ordinary prompts, which often end alike, often get the same answer; these never do.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from edgespec.console import Terminal, force_utf8
from edgespec.engine.genai import open_engine
from edgespec.errors import EdgespecError
from edgespec.export import export_pair
from edgespec.pair import Pair
from edgespec.plan import MeasuredAlpha, apart_prompts, make_twins, measure_alpha
from edgespec.progress import Progress
from edgespec.quantize import quantize_pair
from edgespec.staging import require_absent, require_folder
from edgespec.twins import label_sources, read_twin, twin_label

PROMPTS = 32  # at most
GAMMA = 3
TOKENS = 128


def twin_pair(
    target: str,
    draft: str,
    alpha: float,
    out: Path,
    *,
    vocab: int | None,
    target_format: str,
    draft_format: str,
    seed: int,
    progress: Progress,
) -> Pair:
    """Checkpoints, then an fp16 pair, then the compressed pair `out`; what comes between is deleted."""
    require_absent(out)
    require_folder(out.absolute().parent, out.name)
    with tempfile.TemporaryDirectory(
        prefix=".twins-", dir=out.absolute().parent, ignore_cleanup_errors=True
    ) as scratch:
        checkpoints = make_twins(
            target, draft, alpha, Path(scratch) / "checkpoints", seed=seed, vocab=vocab, progress=progress
        )
        exported = label_sources(export_pair(*checkpoints, Path(scratch) / "pair", progress=progress))
        return quantize_pair(exported.root, out, target=target_format, draft=draft_format, progress=progress)[0]


def check(pair: Pair, alpha: float, answers: int, seed: int) -> MeasuredAlpha | None:
    """What openvino-genai accepts on the CPU, greedy, gamma 3."""
    engine = open_engine(pair, device="CPU", mode="draft")
    prompts = apart_prompts(pair.target, answers, TOKENS, seed=seed)
    return measure_alpha([engine.generate(engine.encode(text), TOKENS, gamma=GAMMA).steps for text in prompts], alpha)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("draft")
    parser.add_argument("--alpha", type=float, required=True, help="share of proposals that is accepted, 0 to 1")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PAIR", help="must not exist")
    parser.add_argument("--vocab", type=int, help="tokens of both models; the target's own unless given")
    parser.add_argument("--target-format", default="int4", help="as edgespec quantize --target (int4)")
    parser.add_argument("--draft-format", default="int8_sym", help="as edgespec quantize --draft (int8_sym)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--answers", type=int, default=8, help="answers of 128 tokens to measure alpha on (8; 0: none)")
    parser.add_argument("--json", action="store_true", help="end with one JSON document")
    options = parser.parse_args()
    terminal = Terminal(options.json)
    try:
        pair = twin_pair(
            options.target,
            options.draft,
            options.alpha,
            options.output,
            vocab=options.vocab,
            target_format=options.target_format,
            draft_format=options.draft_format,
            seed=options.seed,
            progress=terminal,
        )
        prompts = options.output.with_name(f"{options.output.name}-prompts.jsonl")
        count = min(PROMPTS, pair.manifest.target.vocab_size // (4 * TOKENS))
        lines = [json.dumps({"prompt": text}) for text in apart_prompts(pair.target, count, TOKENS, seed=options.seed)]
        prompts.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        measured = None
        if options.answers:
            with terminal.task(f"measuring alpha on {options.answers} answers"):
                measured = check(pair, options.alpha, options.answers, options.seed)
    except EdgespecError as error:
        terminal.say(f"error: {error}")
        return 2
    draft = pair.manifest.draft
    document = {
        "pair": str(pair.root),
        "twins": twin_label(pair),
        "prompts": str(prompts),
        "target": {"parameters": pair.manifest.target.parameters, "precision": pair.manifest.target.precision},
        "draft": draft and {"parameters": draft.parameters, "precision": draft.precision},
        "margin": {role: (read_twin(pair.root / role) or {}).get("margin") for role in ("target", "draft")},
        "measured": measured and vars(measured),
    }
    found = ""
    if measured is not None:
        low, high = measured.interval
        found = (
            f"; alpha asked {measured.asked:.2f}, measured {measured.alpha:.3f} [{low:.3f}, {high:.3f}] over "
            f"{measured.examined} proposals"
        )
    terminal.answer(document, f"{twin_label(pair)}: {pair.root}{found}")
    return 0


if __name__ == "__main__":
    force_utf8()
    sys.exit(main())
