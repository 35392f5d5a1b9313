"""What OVMS can do with a pair, what it cannot, and how it is told. Read in its sources at v2026.3 and its
documentation; where a release matters, it says which."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from edgespec.engine.genai import LOOKUP_GAMMA, LOOKUP_NGRAM
from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.profile import SCHEMA, Profile
from edgespec.runtime.memory import BASE_BYTES, Shape, weights_file
from edgespec.runtime.npu import Lengths, is_npu

RELEASES = ("2025.3", "2025.4", "2026.0", "2026.1", "2026.2", "2026.3", "2026.4")
"""Releases whose rules are known; the last one is meant unless another is named."""

EAGLE3_SINCE = "2026.0"
NPU_DRAFT_SINCE = "2026.4"
"""model_server#4482, merged after 2026.3, lets a model on an NPU have a draft."""

CACHE_GB = 4
"""Of the target's KV cache, unless asked for otherwise."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Ask:
    """name: of the served model. device, draft_device: as OpenVINO names them; None for the target's. cache_gb: of the
    target's KV cache; None for CACHE_GB, where there is one to size. gamma: None takes the tuned profile's. release: of
    OVMS."""

    name: str
    device: str = "CPU"
    draft_device: str | None = None
    cache_gb: int | None = None
    gamma: int | None = None
    release: str = RELEASES[-1]


@dataclass(frozen=True)
class Deployment:
    """How OVMS will run the pair. options: of the graph. generation: what generation_config.json gets besides its own.
    draft: whether the draft goes along. arguments: of the server, beside those of every server. memory_bytes:
    estimated. notes: what whoever deploys it should know."""

    options: dict[str, Any]
    generation: dict[str, Any]
    draft: bool
    memory_bytes: int
    arguments: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def devices(self) -> set[str]:
        """Of the models that go along."""
        return {self.options[name] for name in ("device", "draft_device") if name in self.options}


def deploy(pair: Pair, ask: Ask) -> Deployment:
    """Raises EdgespecError for what OVMS cannot do, and for what was asked for and would be ignored."""
    _require_sound(pair, ask)
    record = pair.manifest.draft
    head = record is not None and record.kind == "eagle3"
    profile = _profile(pair, ask.device)
    notes: list[str] = []
    draft, lookup, generation = _speculation(pair, ask, profile, notes)
    where = ask.draft_device or (profile.draft_device if profile is not None else None) or ask.device
    if draft:
        _require_draftable(pair, ask, where)
    elif ask.draft_device is not None:
        why = "has no draft" if record is None else f"goes without its draft ({'; '.join(notes)})"
        leave = "leave it out" if record is None else "leave it out, or take the draft along with a gamma"
        raise EdgespecError(f"a draft device was given, and the pair '{pair.root}' {why}; {leave}")
    plugin: dict[str, Any] = dict(profile.settings) if profile is not None else {}
    if draft and plugin:
        notes.append("the plugin settings of the profile hold for the target; OVMS has no field for the draft's")
    if lookup:
        plugin["prompt_lookup"] = True
    options: dict[str, Any] = {"models_path": "./", "device": ask.device}
    if plugin:
        options["plugin_config"] = json.dumps(plugin, sort_keys=True)
    if draft:
        options |= {"draft_models_path": "draft", "draft_device": where}
        generation["temperature"] = 0.0
        notes.append(
            "requests that name no temperature are answered greedily; above 0 a draft's output would not follow the "
            "target's distribution (openvino.genai#4190), so tell clients to leave it at 0"
        )
    arguments: tuple[str, ...] = ()
    if is_npu(ask.device):
        notes.append(
            "on an NPU a prompt has at most MAX_PROMPT_LEN tokens, 1,024 unless plugin_config says more, and requests "
            "are answered one at a time"
        )
    else:
        options |= _batching(pair, ask.cache_gb or CACHE_GB, draft, lookup)
        if draft and head:
            options |= {"draft_eagle3_mode": True, "max_num_seqs": 1}
            arguments = ("--rest_workers=2",)
            notes.append("an EAGLE-3 head answers one request at a time, greedily; scale by replicas")
    return Deployment(options, generation, draft, _memory(pair, options, plugin), arguments, notes)


def _batching(pair: Pair, cache_gb: int, draft: bool, lookup: bool) -> dict[str, Any]:
    """Fields of continuous batching, which the pipeline of an NPU ignores (docs/llm/reference.md of OVMS)."""
    options: dict[str, Any] = {"cache_size": cache_gb, "enable_prefix_caching": not draft}
    if draft:
        options["draft_cache_size"] = _draft_cache_gb(pair, cache_gb)
    if lookup:
        options["dynamic_split_fuse"] = False  # as its documentation advises
        options["max_num_batched_tokens"] = max(256, Shape.read(pair.target).context or 4096)
    return options


def _require_sound(pair: Pair, ask: Ask) -> None:
    """Refuse what no profile could make right."""
    if not _NAME.fullmatch(ask.name):
        raise EdgespecError(
            f"'{ask.name}' is no name for a model: letters, digits, '.', '_' and '-', a letter or digit first"
        )
    if ask.release not in RELEASES:
        raise EdgespecError(f"the rules of OVMS {ask.release} are not known; choose from {', '.join(RELEASES)}")
    if ask.cache_gb is not None and is_npu(ask.device):
        raise EdgespecError(
            f"a cache of {ask.cache_gb} GB was asked for, and OVMS sizes none on an NPU, where the model is compiled "
            "for lengths of its own; leave it out"
        )
    if ask.cache_gb is not None and ask.cache_gb < 1:
        raise EdgespecError(f"the cache must have at least 1 GB, not {ask.cache_gb}; OVMS counts in whole gigabytes")
    if ask.gamma is not None and ask.gamma < 1:
        raise EdgespecError(f"gamma must be at least 1, not {ask.gamma}")
    if pair.manifest.target.kind == "gguf":
        raise EdgespecError(
            f"the target of '{pair.root}' is a GGUF file, and a repository is made of OpenVINO models; export it from "
            "its checkpoint"
        )


def _require_draftable(pair: Pair, ask: Ask, where: str) -> None:
    """Refuse a draft that OVMS cannot run beside its target, where one goes along: on the device `where`."""
    draft, target = pair.manifest.draft, pair.manifest.target
    assert draft is not None
    npu, draft_npu = is_npu(ask.device), is_npu(where)
    if npu != draft_npu:
        raise EdgespecError(
            "OVMS runs a draft beside its target in one kind of pipeline, and an NPU has another than CPU and GPU: "
            f"target on {ask.device} with draft on {where} cannot be served; put both on the NPU, or neither"
        )
    if npu and _before(ask.release, NPU_DRAFT_SINCE):
        raise EdgespecError(
            f"OVMS {ask.release} has no draft on an NPU; use {NPU_DRAFT_SINCE} or later, another device, or a pair "
            "without a draft"
        )
    if draft.kind != "eagle3":
        return
    if _before(ask.release, EAGLE3_SINCE):
        raise EdgespecError(f"OVMS {ask.release} has no EAGLE-3; use {EAGLE3_SINCE} or later")
    if npu:
        raise EdgespecError("OVMS runs EAGLE-3 by continuous batching, which an NPU has not; use CPU or GPU")
    if "moe" in target.architecture.lower():
        raise EdgespecError(f"OVMS has no EAGLE-3 for mixtures of experts, such as {target.architecture}")


def _speculation(pair: Pair, ask: Ask, profile: Profile | None, notes: list[str]) -> tuple[bool, bool, dict[str, Any]]:
    """(whether with the draft, whether with prompt lookup, what generation_config.json gets)."""
    has_draft = pair.manifest.draft is not None
    if ask.gamma is not None:
        if not has_draft:
            raise EdgespecError(f"a gamma was given, and the pair '{pair.root}' has no draft; leave it out")
        return True, False, {"num_assistant_tokens": ask.gamma}
    if profile is None:
        if has_draft:
            notes.append(
                f"the pair has no profile for {ask.device}, so OVMS proposes as many tokens as is its default "
                f"(5); tune the "
                f"pair, or give --gamma"
            )
        return has_draft, False, {}
    said = f"the profile tuned on '{profile.machine.cpu}'"
    if profile.mode == "lookup" and profile.engine == "genai":
        notes.append(f"{said} found prompt lookup fastest: the draft stays at home")
        return False, True, {"num_assistant_tokens": profile.gamma or LOOKUP_GAMMA, "max_ngram_size": LOOKUP_NGRAM}
    if not profile.speculative:
        notes.append(
            f"{said} found nothing faster than plain decoding: the draft stays at home; --gamma takes it along"
        )
        return False, False, {}
    if not has_draft:
        notes.append(f"{said} is of mode '{profile.name}', which OVMS does not have: it decodes plainly")
        return False, False, {}
    if profile.threshold is not None:
        return True, False, {"assistant_confidence_threshold": profile.threshold}
    if profile.mode not in ("draft", "eagle3") or profile.engine != "genai":
        notes.append(
            f"{said} is of mode '{profile.name}', which is edgespec's own: OVMS drafts a fixed number of tokens a step"
        )
    return True, False, {} if profile.gamma is None else {"num_assistant_tokens": profile.gamma}


def _profile(pair: Pair, device: str) -> Profile | None:
    """The newest profile for the device, of whatever machine: its gamma is the best guess for another one."""
    for entry in reversed(pair.manifest.profiles):
        if entry.get("schema_version") == SCHEMA and entry.get("device") == device:
            try:
                return Profile.model_validate(entry)
            except ValueError:
                continue
    return None


def _draft_cache_gb(pair: Pair, cache_gb: int) -> int:
    """What the draft needs to hold the same tokens. Unset, OVMS gives it as much as the target, on top."""
    assert pair.draft is not None
    target, draft = (Shape.read(folder).cache_bytes(1024, "u8") for folder in (pair.target, pair.draft))
    return max(1, math.ceil(cache_gb * draft / target)) if target and draft else cache_gb


def _memory(pair: Pair, options: dict[str, Any], plugin: dict[str, Any]) -> int:
    """Estimated bytes: weights, caches, and the work of the longest pass. plugin: on an NPU it may name the lengths
    that both models are compiled for."""
    manifest = pair.manifest
    models = [(pair.target, manifest.target)]
    if "draft_models_path" in options and pair.draft and manifest.draft:
        models.append((pair.draft, manifest.draft))
    weights = sum((folder / weights_file(record)).stat().st_size for folder, record in models)
    if "cache_size" in options:
        caches = (options["cache_size"] + options.get("draft_cache_size", 0)) * 10**9
    else:
        compiled = Lengths().properties() | plugin
        tokens = int(compiled["MAX_PROMPT_LEN"]) + int(compiled["MIN_RESPONSE_LEN"])
        caches = sum(Shape.read(folder).cache_bytes(tokens, "f16") for folder, _ in models)
    needed: int = weights + caches + Shape.read(pair.target).workspace_bytes(4096) + len(models) * BASE_BYTES
    return needed


def _before(release: str, other: str) -> bool:
    return RELEASES.index(release) < RELEASES.index(other)
