"""The ten-line embed: python examples/embed.py PAIR "def fibonacci(n):" """

import sys

from edgespec import Piece, SpecPipeline

with SpecPipeline(sys.argv[1]) as pipeline:
    for item in pipeline.stream(sys.argv[2], max_new_tokens=64):
        if isinstance(item, Piece):
            print(item.text, end="", flush=True)
        else:
            print(f"\n{item.metrics.tokens_per_second:.0f} tokens/s, mode {item.metrics.mode}: {item.metrics.why}")
