"""edgespec: speculative decoding on AI PCs with OpenVINO.

What an app embeds is imported from here; nothing heavy loads before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import EdgespecError
    from .pair import Pair
    from .runtime import Chat, Metrics, Piece, Result, SpecPipeline

__version__ = "0.1.0"
__all__ = ["Chat", "EdgespecError", "Metrics", "Pair", "Piece", "Result", "SpecPipeline", "__version__"]

_HOMES = {
    "Chat": "runtime",
    "EdgespecError": "errors",
    "Metrics": "runtime",
    "Pair": "pair",
    "Piece": "runtime",
    "Result": "runtime",
    "SpecPipeline": "runtime",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgespec' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"edgespec.{_HOMES[name]}"), name)
