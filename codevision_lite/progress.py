"""One progress line: rewritten in place on a terminal, printed every ten seconds elsewhere. And texts that hang under their heading."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time


class Progress:
    """`Progress("eval base", 480, "pictures").update(64, "accuracy .91")` shows done/total, rate and eta."""

    def __init__(self, what: str, total: int, unit: str = "", start: int = 0):
        self.what, self.total, self.unit, self.start = what, total, unit, start
        self._began = self._shown = time.monotonic()
        self._terminal = sys.stdout.isatty()

    def update(self, done: int, note: str = "") -> None:
        """Say that `done` of the total are done."""
        now = time.monotonic()
        last = done >= self.total
        if not last and now - self._shown < (0.2 if self._terminal else 10):
            return
        self._shown = now
        seconds = max(now - self._began, 1e-9)
        rate = (done - self.start) / seconds
        eta = _clock((self.total - done) / rate) if rate > 0 else "?"
        tail = f"done in {_clock(seconds)}" if last else f"eta {eta}"
        line = (
            f"{self.what} {done}/{self.total}{f' {self.unit}' if self.unit else ''} | {note + ' | ' if note else ''}{rate:.2g}/s | {tail}"
        )
        if self._terminal:
            print(f"\r\033[K{line}", end="\n" if last else "", flush=True)
        else:
            print(line, flush=True)


def hanging(head: str, text: str) -> str:
    """`head` and `text` as one line, which goes on below the text where the terminal ends; whole where there is no terminal."""
    columns = shutil.get_terminal_size((0, 0)).columns
    if not columns:
        return f"{head}{text}"
    width = max(min(columns, 120), len(head) + 30)
    options = {"initial_indent": head, "subsequent_indent": " " * len(head), "break_long_words": False, "break_on_hyphens": False}
    return "\n".join(textwrap.wrap(text, width, **options))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
