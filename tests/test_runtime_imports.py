"""The runtime side stays light: what a desktop app embeds never pulls in the training and export stack."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "transformers", "nncf", "optimum", "onnx")


def _loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return {name.split(".")[0] for name in out.split()}


def test_import_edgespec_loads_nothing_heavy() -> None:
    loaded = _loaded_after("import edgespec")
    assert not loaded & {*HEAVY, "openvino", "openvino_genai", "numpy", "rich", "typer"}


def test_every_runtime_module_loads_without_the_training_stack() -> None:
    statement = (
        "import pkgutil, importlib, edgespec\n"
        "stages = ('edgespec.train', 'edgespec.export', 'edgespec.quantize', 'edgespec.bench', 'edgespec.__')\n"
        "count = 0\n"
        "for module in pkgutil.walk_packages(edgespec.__path__, 'edgespec.'):\n"
        "    if not module.name.startswith(stages):\n"
        "        importlib.import_module(module.name)\n"
        "        count += 1\n"
        "assert count > 10, count\n"
        "import openvino, openvino_genai"
    )
    assert not _loaded_after(statement) & set(HEAVY)


def test_help_loads_no_verb() -> None:
    loaded = _loaded_after(
        "import sys; sys.argv = ['edgespec', '--help']\nfrom edgespec.cli import main\n"
        "try:\n    main()\nexcept SystemExit as leave:\n    assert leave.code == 0"
    )
    assert not loaded & {*HEAVY, "openvino", "openvino_genai", "numpy"}
