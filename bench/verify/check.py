"""Does speculation change what the model says? Two checks, and one verdict over both.

greedy    every arm's answers are plain's, token for token, and plain's are what the target's own logits say
sampled   the first tokens of every arm's answers follow the target's exact distribution (cells.py, variation.py)

Under exact settings the words must be equal, except at a tie that rounding in f32 decides. Under default settings
numerics alone make some answers differ, so an arm fails when it differs at a place where rounding cannot be the reason,
or on significantly more prompts than its control does: plain decoding in a batch for openvino-genai's arms, the native
engine's own plain decoding for its arms (sameness.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError
from edgespec.pair import Pair, installed_versions
from edgespec.progress import SILENT, Progress
from edgespec.settings import EXACT, describe
from edgespec.staging import require_absent, require_folder, write_atomically

from ..prompts import Suite, load_suite, spread
from .expectation import Draws, expect, with_rounding
from .hearing import hear
from .judging import compare, judge
from .voices import choose, with_controls
from .world import World

RESULT = "verify.json"


def run_verify(
    pair_dir: str | Path,
    *,
    device: str = "CPU",
    draft_device: str | None = None,
    arms: Sequence[str] | None = None,
    gamma: int | None = None,
    draws: Draws | None = None,
    prompts: str | Suite = "code",
    exact: bool = True,
    max_new_tokens: int = 64,
    seed: int = 0,
    out: str | Path | None = None,
    progress: Progress = SILENT,
    world: World | None = None,
) -> dict[str, Any]:
    """Check the pair's arms and return the result; with `out`, a folder that does not exist yet, write verify.json too.

    arms: None for the standard ones; one that was asked for and cannot be loaded raises EdgespecError, a standard one
    is left out with a note. draws: None leaves the sampled check out. exact: run the arms with nothing rounded beyond
    the weights, otherwise as OpenVINO does when nobody sets anything.
    """
    for name, value, least in (("--max-new-tokens", max_new_tokens, 1), ("--seed", seed, 0), ("--gamma", gamma, 1)):
        if value is not None and value < least:
            raise EdgespecError(f"{name} is {value}; it must be at least {least}")
    if out is not None:
        require_absent(Path(out))
        require_folder(Path(out).absolute().parent, Path(out).name)
    pair = Pair.open(pair_dir)
    suite = prompts if isinstance(prompts, Suite) else load_suite(prompts)
    settings = EXACT if exact else {}
    world = world or World.real(pair, device, draft_device, settings, gamma)
    chosen = choose(world.voices, arms)
    for voice in chosen:
        if voice.greedy is None and draws is None:
            raise EdgespecError(f"the arm '{voice.name}' cannot be checked greedily: {voice.reason}")
    if draft_device is not None and not any(voice.drafts for voice in chosen):
        raise EdgespecError("--draft-device is for arms with a draft, which this run does not have; leave it out")
    if gamma is not None and not any(voice.takes_gamma for voice in chosen):
        raise EdgespecError("--gamma is for arms that propose as many tokens as they are told; leave it out")
    ids = {prompt.id: world.encode(prompt) for prompt in suite.prompts}
    for name, tokens in ids.items():
        if not tokens:
            raise EdgespecError(f"the prompt '{name}' has no token; take it out of the suite")
    expected = []
    if draws is not None:
        few = {prompt.id: ids[prompt.id] for prompt in spread(suite.prompts, draws.contexts)}
        expected = expect(world, draws, few, seed, progress)
        if not exact:
            expected = with_rounding(world, draws, expected, progress)
    heard_arms = chosen if exact else with_controls(chosen, world.voices)
    heard = hear(
        world,
        heard_arms,
        ids,
        draws,
        expected,
        max_new_tokens=max_new_tokens,
        with_control=not exact,
        strict=arms is not None,
        seed=seed,
        progress=progress,
    )
    compared = compare(world, heard, ids, progress)
    result = {
        "schema": "edgespec.verify/1",
        "pair": pair.root.resolve().name,
        "device": device.upper(),
        "draft_device": draft_device.upper() if draft_device else None,
        "exact": exact,
        "settings": describe(settings),
        **judge(heard_arms, heard, compared, expected, draws, exact=exact, seed=seed, progress=progress),
        "sampling": _sampling(draws) if draws else None,
        "prompts": {"suite": suite.name, "count": len(suite.prompts), "sha256": suite.sha256},
        "max_new_tokens": max_new_tokens,
        "gamma": gamma,
        "seed": seed,
        "left_out": heard.left_out,
        "versions": installed_versions("openvino-genai", "openvino-tokenizers"),
    }
    if out is not None:
        Path(out).mkdir()
        text = json.dumps(result, ensure_ascii=False, allow_nan=False, indent=2)
        write_atomically(Path(out) / RESULT, text + "\n")
    return result


def _sampling(draws: Draws) -> dict[str, Any]:
    of = draws.sampling
    return {
        "temperature": of.temperature,
        "top_k": of.top_k,
        "top_p": of.top_p,
        "tokens": draws.tokens,
        "samples": draws.samples,
    }
