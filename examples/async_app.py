"""Several questions at once in one event loop, answered in turn.

python examples/async_app.py PAIR "def f(" "class A"
"""

from __future__ import annotations

import asyncio
import sys

from edgespec import SpecPipeline


async def main() -> None:
    with SpecPipeline(sys.argv[1], background=True) as pipeline:  # loads while the loop goes on

        async def ask(prompt: str) -> None:
            result = await pipeline.agenerate(prompt, max_new_tokens=32)
            waited = result.metrics.queue_ms
            print(f"{prompt!r} -> {result.text!r} (waited {waited:.0f} ms for its turn)")

        await asyncio.gather(*map(ask, sys.argv[2:]))


asyncio.run(main())
