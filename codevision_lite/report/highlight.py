"""Python code as HTML with a few colours. It never fails: what models write need not be Python."""

from __future__ import annotations

import builtins
import keyword
import re
from html import escape

_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
      | (?P<string>[rbfuRBFU]{0,2}(?:\"\"\"[\s\S]*?(?:\"\"\"|$)|'''[\s\S]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?))
      | (?P<number>\b\d[\w.]*)
      | (?P<name>[^\W\d]\w*)
      | (?P<other>\s+|.)""",
    re.X,
)
_BUILTINS = frozenset(n for n in dir(builtins) if not n.startswith("_"))


def highlight(code: str) -> str:
    """Escaped HTML with spans of class k (keyword), s (string), c (comment), n (number) and b (builtin)."""
    return "".join(_span(m.lastgroup or "other", m.group()) for m in _TOKEN.finditer(code))


def _span(kind: str, text: str) -> str:
    css = {"comment": "c", "string": "s", "number": "n"}.get(kind)
    if kind == "name":
        css = "k" if keyword.iskeyword(text) else "b" if text in _BUILTINS else None
    return f'<span class="{css}">{escape(text)}</span>' if css else escape(text)
