"""What an app embeds: a pair that is loaded, answers, streams, chats, stops, and says why it does what it does."""

from __future__ import annotations

from .chat import Chat
from .npu import Lengths
from .pipeline import SpecPipeline
from .requests import Options
from .results import Explanation, Metrics, Piece, Result
from .streams import AsyncStream, Stream

__all__ = [
    "AsyncStream",
    "Chat",
    "Explanation",
    "Lengths",
    "Metrics",
    "Options",
    "Piece",
    "Result",
    "SpecPipeline",
    "Stream",
]
