"""Pictures inside a terminal, where it is one that says it can: the protocols of kitty and of iTerm2."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Literal

from PIL import Image

SHOWN_PX = 480  # the long side, at most
_CHUNK = 4096  # bytes of base64 in one escape sequence of kitty

Protocol = Literal["kitty", "iterm2"]


def picture_protocol(environment: Mapping[str, str], is_terminal: bool) -> Protocol | None:
    """Which protocol the terminal understands, by the variables that it sets; None inside tmux and screen, which swallow both."""
    if not is_terminal or environment.get("TMUX") or environment.get("TERM", "").startswith(("screen", "tmux")):
        return None
    program = environment.get("TERM_PROGRAM", "").lower()
    if environment.get("KITTY_WINDOW_ID") or environment.get("TERM") == "xterm-kitty" or program == "ghostty":
        return "kitty"
    return "iterm2" if program in ("iterm.app", "wezterm") or environment.get("LC_TERMINAL") == "iTerm2" else None


def picture_escape(image: Image.Image, protocol: Protocol) -> str:
    """The escape sequence that draws the picture (made smaller to SHOWN_PX) where the cursor is."""
    small = image.copy()
    small.thumbnail((SHOWN_PX, SHOWN_PX))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    if protocol == "iterm2":
        return f"\x1b]1337;File=inline=1;size={len(buffer.getvalue())};width={small.width}px:{data}\a"
    chunks = [data[i : i + _CHUNK] for i in range(0, len(data), _CHUNK)]
    first = "a=T,f=100,"
    return "".join(
        f"\x1b_G{first if i == 0 else ''}m={int(i < len(chunks) - 1)};{chunk}\x1b\\" for i, chunk in enumerate(chunks)
    )
