"""The model repository of one pair: whole in its place, or not there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError
from edgespec.pair import ModelRecord, Pair
from edgespec.progress import SILENT, Progress
from edgespec.staging import staged_directory

from .graph import write_graph
from .kserve import as_yaml, inference_service, serving_runtime
from .rules import Ask, Deployment, deploy


def package_for_ovms(
    root: Path,
    out: Path,
    ask: Ask | None = None,
    *,
    storage_uri: str | None = None,
    progress: Progress = SILENT,
    **how: Any,
) -> dict[str, Any]:
    """Write a repository for the pair at `root` to `out`; how: the fields of `Ask`. storage_uri: where KServe will find
    it; None writes no resources for it.

        out/config.json                 names the model and its folder
        out/NAME/graph.pbtxt            how it is run; beside it the target, its generation_config.json with the gamma
        out/NAME/draft/                 the draft
        out/kserve/*.yaml               ServingRuntime, InferenceService

    Returns what was decided, with notes. Raises EdgespecError for what OVMS cannot do, and for an `out` that exists.
    """
    pair = Pair.open(root)
    ask = ask or Ask(**how)
    plan = deploy(pair, ask)
    resources = {}
    if storage_uri is not None:
        resources = {
            "serving-runtime.yaml": serving_runtime(ask.name, ask.release, plan.devices, plan.arguments),
            "inference-service.yaml": inference_service(ask.name, storage_uri, plan.memory_bytes, plan.devices),
        }
    shipped = {pair.target: pair.manifest.target}
    if plan.draft and pair.draft is not None and pair.manifest.draft is not None:
        shipped[pair.draft] = pair.manifest.draft
    size = sum(file.bytes for record in shipped.values() for file in record.files.values())
    with staged_directory(out, size, progress) as staging, progress.task(f"copying '{root.name}'"):
        model = staging / ask.name
        for folder, record in shipped.items():
            place = model if folder == pair.target else model / "draft"
            if place.exists():
                raise EdgespecError(f"the target of '{root}' holds a 'draft' of its own; export the pair again")
            _copy(record, folder, place)
        _merge(model / "generation_config.json", plan)
        _write(model / "graph.pbtxt", write_graph(plan.options))
        served = {"model_config_list": [{"config": {"name": ask.name, "base_path": ask.name}}]}
        _write(staging / "config.json", json.dumps(served, indent=2) + "\n")
        for name, document in resources.items():
            (staging / "kserve").mkdir(exist_ok=True)
            _write(staging / "kserve" / name, as_yaml(document))
    return {
        "repository": str(out.resolve()),
        "name": ask.name,
        "release": ask.release,
        "device": ask.device,
        "draft_device": plan.options.get("draft_device"),
        "draft": plan.draft,
        "graph": plan.options,
        "generation_config": plan.generation,
        "memory_bytes": plan.memory_bytes,
        "arguments": list(plan.arguments),
        "kserve": [str(Path("kserve") / name) for name in resources],
        "notes": plan.notes,
    }


def _merge(path: Path, plan: Deployment) -> None:
    """The target's own file with the deployment's defaults: OVMS reads them there, for requests that name none. A
    threshold and a number of tokens exclude one another."""
    try:
        config: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EdgespecError(f"'{path.name}' of the target cannot be read: {error}; make the pair again") from error
    for name in ("num_assistant_tokens", "assistant_confidence_threshold"):
        config.pop(name, None)
    _write(path, json.dumps(config | plan.generation, indent=2) + "\n")


def _copy(record: ModelRecord, source: Path, folder: Path) -> None:
    """The files that the manifest names, and nothing that merely lies beside them."""
    folder.mkdir()
    for name in record.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, folder / name)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
