"""The model card of a pair made by a recipe: what it was made from, how, and how well it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgespec.training_index import INDEX_FILE

from .recipe import Recipe, stage_facts

LICENCES = {
    "stdlib": "Python standard library, PSF-2.0",
    "transformers": "transformers, Apache-2.0",
    "torch": "PyTorch, BSD-3-Clause",
    "nncf": "NNCF, Apache-2.0",
    "optimum": "optimum and optimum-intel, Apache-2.0",
    "openvino": "OpenVINO, Apache-2.0",
}


def model_card(recipe: Recipe, work: Path, versions: dict[str, str], acceptance: dict[str, Any]) -> str:
    """Markdown. Every figure is read from the stages' own records or from `acceptance` (evaluate_pair's result)."""
    corpus = stage_facts(work / "corpus")
    answers = stage_facts(work / "answers")
    aligned = stage_facts(work / "draft")
    shipped = stage_facts(work / "shipped-draft")
    lines = [
        "# The bundled pair",
        "",
        "A small Python code-completion target and its draft, trained from nothing by `edgespec train run` so that",
        "`edgespec demo` can measure speculative decoding offline. They show how a pair behaves; they are not a coding",
        "assistant, and nothing they write should be relied on. Licence: Apache-2.0.",
        "",
        "## Data",
        "",
        "Python source of the packages below, read from the installation that trained them; nothing was downloaded.",
        "Licence headers were cut off, files repeating others dropped, and held-out files chosen by content hash.",
        "",
        "| source | version | licence |",
        "|---|---|---|",
        *(f"| {name} | {versions.get(name, '')} | {LICENCES.get(name, '')} |" for name in recipe.corpus.sources),
        "",
        f"{corpus['train']['documents']:,} documents, {corpus['train']['tokens']:,} tokens; held out: "
        f"{corpus['heldout']['documents']} documents, {corpus['heldout']['tokens']:,} tokens.",
        f"Tokenizer: byte-level BPE of {recipe.tokenizer.vocab_size} tokens, trained on the same text.",
        "",
        f"`{INDEX_FILE}` beside the draft holds hashes of that text and of the answers that it was aligned on",
        f"({shipped['indexed_texts']:,} texts, {shipped['indexed_bytes']:,} bytes), so that a bench can leave out",
        "prompts which the draft has seen.",
        "",
        "## Training",
        "",
        "| model | phase | layers | parameters | tokens seen | minutes | held-out loss (nats/token) |",
        "|---|---|---|---|---|---|---|",
    ]
    for role, section in (("target", recipe.target), ("draft", recipe.draft)):
        for index, phase in enumerate(section.phases, start=1):
            facts = stage_facts(work / f"{role}-{index}")
            lines.append(
                f"| {role} | {index} | {phase.layers} | {facts['parameters'] / 1e6:.1f} M | "
                f"{facts['tokens'] / 1e6:.2f} M | {facts['seconds'] / 60:.0f} | {facts['heldout_loss']:.3f} |"
            )
    before, after, minutes = aligned["before"], aligned["after"], aligned["seconds"] / 60
    alphas = ", ".join("unknown" if alpha is None else f"{alpha:.2f}" for alpha in acceptance["alpha"])
    lines += [
        "",
        f"The draft was then aligned to the target by KL divergence on {answers['train']['tokens']:,} tokens that the",
        f"target wrote itself ({minutes:.0f} minutes). On held-out answers, teacher-forced, its likeliest token is the",
        f"target's at {before['top1']:.3f} of positions before and {after['top1']:.3f} after; the overlap",
        f"sum(min(p, q)) goes from {before['overlap']:.3f} to {after['overlap']:.3f}.",
        "",
        "## Acceptance",
        "",
        f"By real speculative decoding, greedy, gamma {acceptance['gamma']}, {acceptance['prompts']} code prompts that "
        "share no content with the training text:",
        f"acceptance rate {acceptance['acceptance_rate']:.3f}, block efficiency {acceptance['block_efficiency']:.2f}, "
        f"MBSU {acceptance['mbsu']:.2f}, alpha by position {alphas}.",
        "",
    ]
    return "\n".join(lines)
