"""Tiny random models of several families, as IRs alone, and pairs whose draft is as good, or as bad, as can be."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from families import FAMILIES, SIZES

from edgespec.pair import Pair, record_files, write_manifest


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """name -> directory with the IR and config.json of a random model of that family."""

    @cache
    def make(name: str) -> Path:
        import torch
        import transformers
        from optimum.exporters.openvino import export_from_model

        prefix, own = FAMILIES[name]
        config_class = getattr(transformers, f"{prefix}TextConfig" if prefix == "Gemma3" else f"{prefix}Config")
        torch.manual_seed(0)
        model = getattr(transformers, f"{prefix}ForCausalLM")(config_class(**SIZES, **own))
        folder = tmp_path_factory.mktemp("families") / name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer, about code that is not ours
            export_from_model(model, output=folder, task="text-generation-with-past", stateful=True, preprocessors=None)
        return folder

    return make


@pytest.fixture(scope="session")
def self_draft_pair(tiny_pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A pair whose draft is its target: everything proposed greedily is accepted."""
    root = tmp_path_factory.mktemp("self-draft") / "pair"
    shutil.copytree(tiny_pair, root)
    shutil.rmtree(root / "draft")
    shutil.copytree(root / "target", root / "draft")
    manifest = Pair.open(tiny_pair).manifest
    write_manifest(root, manifest.model_copy(update={"draft": manifest.target}))
    return Pair.open(root)


@pytest.fixture(scope="session")
def hostile_draft_pair(self_draft_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A pair whose draft is its target with the logits turned round: it proposes what the target likes least."""
    import openvino

    root = tmp_path_factory.mktemp("hostile") / "pair"
    shutil.copytree(self_draft_pair.root, root)
    xml = root / "draft" / "openvino_model.xml"
    model = openvino.Core().read_model(self_draft_pair.target / "openvino_model.xml")
    head = next(node for node in reversed(model.get_ordered_ops()) if node.get_type_name() == "MatMul")
    turned = openvino.opset13.multiply(head.output(0), openvino.opset13.constant(-1.0, openvino.Type.f32))
    names = head.output(0).get_names()
    head.output(0).get_tensor().set_names(set())
    turned.output(0).get_tensor().set_names(names)
    for consumer in head.output(0).get_target_inputs():
        if consumer.get_node().get_friendly_name() != turned.get_friendly_name():
            consumer.replace_source_output(turned.output(0))
    openvino.save_model(model, xml, compress_to_fp16=False)
    manifest = self_draft_pair.manifest
    assert manifest.draft is not None
    draft = manifest.draft.model_copy(update={"files": record_files(root / "draft")})
    write_manifest(root, manifest.model_copy(update={"draft": draft}))
    return Pair.open(root)
