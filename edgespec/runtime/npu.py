"""What an NPU needs to be told beforehand: it compiles models of fixed shape, so lengths and gamma are settled then.

Sources: openvino.genai src/cpp/src/utils.cpp (MAX_PROMPT_LEN, MIN_RESPONSE_LEN) and
src/cpp/src/speculative_decoding/stateful/fast_draft_strategy.cpp, which reads num_assistant_tokens from the target's
generation_config.json when it compiles, lets gamma grow up to twice that, and ignores most of what a request says.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EdgespecError
from ..pair import Pair
from ..sampling import Sampling

PROMPT_TOKENS = 1024
RESPONSE_TOKENS = 256
"""Lengths compiled for unless a request, or the app, asks for more."""
STEP = 256
"""Lengths are rounded up to a multiple of this, so that one token more does not compile anew."""
LARGEST_GAMMA = 8
"""What the window of verified tokens is compiled for at least. A request for more compiles anew."""


def is_npu(device: str | None) -> bool:
    return (device or "").upper().startswith("NPU")


@dataclass(frozen=True)
class Lengths:
    """Tokens of prompt and answer, and the largest gamma, that models are compiled for."""

    prompt: int = PROMPT_TOKENS
    response: int = RESPONSE_TOKENS
    gamma: int = LARGEST_GAMMA

    def holding(self, prompt: int, response: int, gamma: int) -> Lengths:
        """These, or larger ones that hold the request too."""
        return Lengths(
            max(self.prompt, _up(prompt)),
            max(self.response, _up(self._needed(response, gamma))),
            max(self.gamma, gamma),
        )

    def hold(self, prompt: int, response: int, gamma: int) -> bool:
        return self.holding(prompt, response, gamma) == self

    @staticmethod
    def _needed(response: int, gamma: int) -> int:
        """Places an answer takes: past its end, up to 2 gamma + 1 proposals are still written before they are refused
        (upstream throws when they do not fit)."""
        return response + 2 * gamma + 1

    def properties(self) -> dict[str, Any]:
        return {"MAX_PROMPT_LEN": self.prompt, "MIN_RESPONSE_LEN": self.response}


def _up(tokens: int) -> int:
    return -(-tokens // STEP) * STEP


def emulation() -> dict[str, Any]:
    """Properties that run the NPU's pipeline on other devices, where the environment asks for it by NPUW_DEVICES, as
    upstream's own tests do; empty otherwise. Without online partitioning: small models fail to compile with it."""
    devices = os.environ.get("NPUW_DEVICES")
    if not devices:
        return {}
    return {"NPUW_DEVICES": devices, "NPUW_ONLINE_PIPELINE": os.environ.get("NPUW_ONLINE_PIPELINE", "NONE")}


def refusal(mode: str, sampling: Sampling) -> str | None:
    """Why an NPU would not do what a request says; None when it does. mode: plain or draft.

    openvino-genai's draft mode there takes the likeliest token and looks at nothing else; its plain mode does as told.
    """
    asked = {
        "temperature above 0": not sampling.greedy and mode == "draft",
        "penalties": sampling.penalized and mode == "draft",
        "a logit bias": bool(sampling.logit_bias),
    }
    ignored = [name for name, is_asked in asked.items() if is_asked]
    if not ignored:
        return None
    return f"on an NPU openvino-genai's mode '{mode}' ignores {' and '.join(ignored)}"


def with_gamma(pair: Pair, gamma: int, folder: Path) -> Pair:
    """`pair` with num_assistant_tokens in the target's generation_config.json, as a directory of links in `folder`.

    The pair itself is not touched. Files are hard links where the disk allows, else copies.
    """
    if pair.manifest.target.kind == "gguf":
        raise EdgespecError(
            f"the target of '{pair.root}' is a GGUF file, and a draft on an NPU needs an OpenVINO model"
        )
    models = [model for model in (pair.manifest.target, pair.manifest.draft) if model]
    hashes = "-".join(model.files["openvino_model.bin"].sha256[:16] for model in models)
    root = folder / f"{hashes}-g{gamma}"
    for role in ("target", "draft") if pair.draft else ("target",):
        target = root / role
        target.mkdir(parents=True, exist_ok=True)
        for path in (pair.root / role).iterdir():
            if path.is_file() and (role, path.name) != ("target", "generation_config.json"):
                _link(path, target / path.name)
    try:
        config = json.loads((pair.target / "generation_config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise EdgespecError(f"'{pair.target}' has no readable generation_config.json: {error}") from error
    text = json.dumps(config | {"num_assistant_tokens": gamma}, indent=2)
    (root / "target" / "generation_config.json").write_text(text, encoding="utf-8")
    return Pair(root, pair.manifest)


def _link(source: Path, place: Path) -> None:
    if place.exists():
        if place.stat().st_size == source.stat().st_size and place.stat().st_mtime >= source.stat().st_mtime:
            return
        place.unlink()
    try:
        place.hardlink_to(source)
    except OSError:  # another disk, or a file system without links
        shutil.copy2(source, place)


def split(settings: Mapping[str, Any], device: str, draft_device: str, lengths: Lengths) -> tuple[Any, Any]:
    """Properties of target and draft, each with what its own device understands."""

    def of(where: str) -> dict[str, Any]:
        return {**settings, **lengths.properties(), **emulation()} if is_npu(where) else dict(settings)

    return of(device), of(draft_device)
