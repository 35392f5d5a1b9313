"""The page at /: one file with nothing outside it, read once when the server starts. Its policy lets it run its own
script, by hash, and talk to this server alone."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

PAGE = (files(__package__) / "page.html").read_text(encoding="utf-8")


def _hash(tag: str) -> str:
    """The only <script> or <style> of the page, as a Content-Security-Policy names it."""
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


PAGE_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; script-src {_hash('script')}; style-src {_hash('style')}; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
