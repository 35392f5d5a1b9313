"""A page as one file that opens offline: style, sections, and the data that they were drawn from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .markup import text
from .style import STYLE


def render_document(title: str, body: Sequence[str], data: Mapping[str, Any], name: str, style: str = "") -> str:
    """body: markup, in order. data: stands in the page as JSON, in an element with the id `name`. style: CSS beyond
    STYLE."""
    document = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return _TEMPLATE.format(title=text(title), style=STYLE + style, body="\n".join(body), data=document, name=name)


_TEMPLATE = """<!doctype html>
<html lang="en" data-script-errors="0">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<script>
window.onerror = function () {{
  var page = document.documentElement;
  page.setAttribute("data-script-errors", String(1 + Number(page.getAttribute("data-script-errors"))));
}};
</script>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
<script type="application/json" id="{name}">{data}</script>
<script>
// printed, every folded part is open
window.addEventListener("beforeprint", function () {{
  document.querySelectorAll("details").forEach(function (part) {{ part.open = true; }});
}});
</script>
</body>
</html>
"""
