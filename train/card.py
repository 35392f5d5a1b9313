"""The model card of what a recipe made: from which data, how, and how well it does. Every figure is a stage's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgespec.training_index import INDEX_FILE

from .recipe import Recipe

LICENCES = {
    "stdlib": "Python standard library, PSF-2.0",
    "transformers": "transformers, Apache-2.0",
    "torch": "PyTorch, BSD-3-Clause",
    "nncf": "NNCF, Apache-2.0",
    "optimum": "optimum and optimum-intel, Apache-2.0",
    "openvino": "OpenVINO, Apache-2.0",
}


def model_card(recipe: Recipe, facts: Mapping[str, Mapping[str, Any]], versions: Mapping[str, str]) -> str:
    """Markdown. facts: by stage, what each recorded. versions: of the corpus's sources as they are installed."""
    parts = [_head(recipe), _data(recipe, facts, versions), _training(recipe, facts), _acceptance(facts)]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _head(recipe: Recipe) -> list[str]:
    if recipe.target.phases:
        return [
            "# A pair from nothing",
            "",
            "A small code-completion target and its draft, trained by `edgespec train run` so that speculative",
            "decoding can be measured offline. They show how a pair behaves; they are not a coding assistant, and",
            "nothing they write should be relied on. Licence: Apache-2.0.",
        ]
    return [
        f"# A draft for {recipe.target.checkpoint}",
        "",
        "Made by `edgespec train run` to be verified by its target token for token; on its own it is no assistant.",
    ]


def _data(recipe: Recipe, facts: Mapping[str, Mapping[str, Any]], versions: Mapping[str, str]) -> list[str]:
    lines = ["## Data", ""]
    if recipe.corpus and "corpus" in facts:
        corpus = facts["corpus"]
        lines += [
            "Source text of the packages below, read from the installation that trained; nothing was downloaded.",
            "Licence headers were cut off, files repeating others dropped, and held-out files chosen by content hash.",
            "",
            "| source | version | licence |",
            "|---|---|---|",
            *(f"| {name} | {versions.get(name, '')} | {LICENCES.get(name, '')} |" for name in recipe.corpus.sources),
            "",
            f"{corpus['train']['documents']:,} documents, {corpus['train']['characters']:,} characters; held out: "
            f"{corpus['heldout']['documents']} documents, {corpus['heldout']['characters']:,} characters.",
        ]
    if recipe.tokenizer:
        lines.append(f"Tokenizer: byte-level BPE of {recipe.tokenizer.vocab_size} tokens, trained on the same text.")
    named = (("pretraining", recipe.pretrain), ("continued pretraining", recipe.continue_))
    for name, section in named:
        if section:
            mixture = ", ".join(f"{part.source} ({part.weight:g})" for part in section.data)
            lines.append(f"Of the draft's {name}, by weight: {mixture}.")
    if recipe.generate and "answers" in facts:
        answers = facts["answers"]
        at = ", ".join(f"{temperature:g}" for temperature in recipe.generate.temperatures)
        lines.append(
            f"The target's own answers: {answers['answers']:,}, {answers['tokens']:,} tokens, at temperatures {at}, to "
            f"prompts from {recipe.generate.prompts}."
        )
    shipped = facts.get("shipped-draft", {})
    if "indexed_texts" in shipped:
        lines += [
            "",
            f"`{INDEX_FILE}` beside the draft holds hashes of that text and of the answers that it was aligned on",
            f"({shipped['indexed_texts']:,} texts, {shipped['indexed_bytes']:,} bytes), so that a bench can leave out",
            "prompts which the draft has seen.",
        ]
    return lines


def _training(recipe: Recipe, facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = ["## Training", "", "| stage | parameters | tokens | minutes | held-out loss |", "|---|---|---|---|---|"]
    for name, known in facts.items():
        if "tokens" not in known or "parameters" not in known:
            continue
        held = known.get("heldout_loss")
        lines.append(
            f"| {name} | {known['parameters'] / 1e6:.1f} M | {known['tokens'] / 1e6:.2f} M | "
            f"{known['seconds'] / 60:.1f} | {'' if held is None else f'{held:.3f}'} |"
        )
    if recipe.align:
        mixed = f", {recipe.align.share:.0%} of the rows from pretraining" if recipe.align.share else ""
        lines += ["", f"Aligned with the loss `{recipe.align.loss}`{mixed}; its held-out loss is of that loss."]
    return lines


def _acceptance(facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    drafts = facts.get("evaluate", {}).get("drafts", {})
    if not drafts:
        return []
    first = next(iter(drafts.values()))[0]
    lines = [
        "## Acceptance",
        "",
        f"By real speculative decoding at gamma {first['gamma']}, {first['prompts']} held-out prompts.",
        "",
        "| draft | temperature | acceptance rate | 95 % | alpha by position | block efficiency | MBSU |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, documents in drafts.items():
        for found in documents:
            interval = found["acceptance_ci95"]
            cells = [
                name,
                f"{found['temperature']:g}",
                _figure(found["acceptance_rate"], 3),
                "unknown" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}",
                ", ".join(_figure(alpha, 2) for alpha in found["alpha"]),
                _figure(found["block_efficiency"], 2),
                _figure(found["mbsu"], 2),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _figure(value: float | None, digits: int) -> str:
    return "unknown" if value is None else f"{value:.{digits}f}"
