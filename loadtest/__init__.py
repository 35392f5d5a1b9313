"""Load on an OpenAI-compatible server, edgespec's or any other, and what its clients then see.

client.py   one request, streamed, with its times as the client has them
load.py     levels: so many clients that ask again at once, or so many requests a second whatever comes back
rows.py     rows.jsonl: one line a request, flushed
report.py   report.json, a pure function over rows; page.py and table.py show it
run.py      all of it, level after level
"""

from __future__ import annotations

from .load import Level, parse_clients, parse_rates
from .run import Ask, run_loadtest
from .table import print_levels

__all__ = ["Ask", "Level", "parse_clients", "parse_rates", "print_levels", "run_loadtest"]
