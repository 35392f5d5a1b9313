"""PyInstaller's hook for `import edgespec`: what it cannot see, because it is imported by name or loaded by path.

Left out on purpose: the stages, the command line and the bundled pair, none of which an app embeds.
"""

from PyInstaller.utils.hooks import collect_data_files, collect_dynamic_libs, collect_submodules, copy_metadata

hiddenimports = [
    *collect_submodules("edgespec.runtime"),  # edgespec/__init__.py imports it when SpecPipeline is asked for
    *collect_submodules("edgespec.engine"),  # a drafter is imported by its name
    "openvino_genai",
    "openvino_genai.py_openvino_genai",
    "openvino_tokenizers",
]
PATTERNS = ["*.dll", "*.dylib", "*.so", "*.so.*"]
"""Of openvino's libraries many carry their version behind the .so; plugins and frontends are loaded from beside it."""
binaries = [
    found
    for package in ("openvino", "openvino_genai", "openvino_tokenizers")
    for found in collect_dynamic_libs(package, search_patterns=PATTERNS)
]
datas = [
    *collect_data_files("openvino", includes=["libs/*.json", "libs/*.xml"]),
    # a profile holds for the versions it was measured with, and versions are read from metadata
    *(found for name in ("edgespec", "openvino", "openvino-genai") for found in copy_metadata(name)),
    *copy_metadata("openvino-tokenizers"),
]
excludedimports = ["edgespec.bundled", "torch", "transformers", "nncf", "optimum"]
