"""An OpenAI-compatible server over one pair: what an editor, an agent or a desktop app in another language talks to.

server.py     the process: socket, uvicorn, orderly end
app.py        routes, and every error in OpenAI's shape; guard.py is the door in front of them
routes.py     a body (protocol.py) becomes a request of the runtime's
answering.py  from the line (desk.py) to the last byte, or to the moment the client is gone
backend.py    one pipeline in turn; batching.py many answers at once
answers.py    OpenAI's documents and chunks; openapi.py describes them, metrics.py counts them
"""

from __future__ import annotations

from .backend import InTurn
from .batching import Batched
from .server import bind, serve, url_of
from .settings import Access, Limits, Served

__all__ = ["Access", "Batched", "InTurn", "Limits", "Served", "bind", "serve", "url_of"]
