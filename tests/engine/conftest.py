"""Tiny random models of several families, as IRs alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from families import FAMILIES, SIZES


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
