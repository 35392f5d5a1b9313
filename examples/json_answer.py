"""An answer that a program can read, whatever the model: python examples/json_answer.py PAIR "A user: " """

from __future__ import annotations

import json
import sys

from edgespec import SpecPipeline

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}

with SpecPipeline(sys.argv[1]) as pipeline:
    result = pipeline.generate(sys.argv[2], json_schema=SCHEMA, max_new_tokens=200, temperature=0.7, seed=0)
print(json.loads(result.text))
