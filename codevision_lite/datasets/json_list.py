"""The items of a JSON list in a file of any size, one at a time, also of a list that is broken in places.

`json` loads a file whole; this finds where each item ends and hands out its bytes. After an item that is broken, reading
goes on at the next one that begins as the first one did (`{"conversations"`), so one stray quote costs one item.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

CHUNK_BYTES = 1 << 20
MAX_ITEM_BYTES = 64 << 20
_HEAD_BYTES = 4096  # enough for the first key of an item

# A whole string, a string that the buffer cuts, or a sign that matters. Possessive: never scanned twice.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{},]', re.S)
_FIRST_KEY = re.compile(rb'\{\s*"(?:[^"\\]|\\.)*"\s*:')
_SPACE = b" \t\r\n"


class Item(NamedTuple):
    """`problem`: why its bytes can't be told apart from the rest of the file; empty where they can (they may still be no JSON)."""

    data: bytes
    position: int  # bytes of the file up to its end
    problem: str


class _Window:
    """The part of the file that is in memory."""

    def __init__(self, file: BinaryIO):
        self.file, self.data, self.at, self.offset, self.ended = file, b"", 0, 0, False  # offset: of data[0] in the file

    def more(self) -> bool:
        """Drop what is done, append as much again as is left (at least a chunk: growth stays linear); False at the end."""
        fresh = self.file.read(max(CHUNK_BYTES, len(self.data) - self.at))
        self.offset += self.at
        self.data, self.at = self.data[self.at :] + fresh, 0
        self.ended = not fresh
        return bool(fresh)

    def ahead(self, n_bytes: int) -> None:
        """Have at least `n_bytes` in memory, or all that is left."""
        while len(self.data) - self.at < n_bytes and self.more():
            pass

    def skip(self, signs: bytes) -> bytes:
        """Step over `signs`; the next byte, or b"" at the end of the file."""
        while True:
            while self.at < len(self.data) and self.data[self.at] in signs:
                self.at += 1
            if self.at < len(self.data):
                return self.data[self.at : self.at + 1]
            if not self.more():
                return b""

    def find(self, pattern: re.Pattern[bytes], start: int) -> bool:
        """Move to the next match at `start` or after it, dropping what lies before; False, at the end of the file, without one."""
        while True:
            if found := pattern.search(self.data, start):
                self.at = found.start()
                return True
            self.at = max(start, len(self.data) - 4096)  # a match may begin here and end in the next chunk
            if not self.more():
                self.at = len(self.data)
                return False
            start = 0


def list_items(path: Path) -> Iterator[Item]:
    """The items of the list in `path`. Raises nothing for bad content: what can't be told apart is an Item with a `problem`."""
    with open(path, "rb") as file:
        window = _Window(file)
        window.ahead(_HEAD_BYTES)
        window.data = window.data.removeprefix(b"\xef\xbb\xbf")
        if window.skip(_SPACE) != b"[":
            yield Item(b"", 0, "a JSON list [...] is needed")
            return
        window.at += 1
        start_of_items: re.Pattern[bytes] | None = None
        while True:
            sign = window.skip(_SPACE + b",")
            if sign in (b"", b"]"):
                if not sign:
                    yield Item(b"", window.offset + window.at, "the file ends in the middle of the list")
                return
            if start_of_items is None:
                start_of_items = _like_first(window)
            length, problem = _measure(window)
            data = window.data[window.at : window.at + length] if not problem else b""
            if not problem and _parses(data):
                window.at += length
                yield Item(data, window.offset + window.at, "")
                continue
            yield Item(data, window.offset + window.at, problem)
            # Go on at the next item that looks like one: inside what was taken for this one if need be.
            if not window.find(start_of_items, window.at + 1):
                return


def _parses(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _like_first(window: _Window) -> re.Pattern[bytes]:
    window.ahead(_HEAD_BYTES)
    first = _FIRST_KEY.match(window.data, window.at)
    if first is None:
        return re.compile(rb"\{")
    key = first.group().split(b'"', 1)[1].rsplit(b'"', 1)[0]
    return re.compile(rb'\{\s*"' + re.escape(key) + rb'"\s*:')


def _measure(window: _Window) -> tuple[int, str]:
    """(bytes of the item at window.at, ""), or (0, why it has no end)."""
    depth, scanned = 0, 0  # scanned: bytes of the item that are done with
    while True:
        for token in _TOKEN.finditer(window.data, window.at + scanned):
            sign = token.group()
            if sign[:1] == b'"':
                if token.end() == len(window.data) and not window.ended and not _is_whole(sign):
                    break  # cut by the end of the buffer: read on and scan it again
            elif sign in b"[{":
                depth += 1
            elif depth == 0:  # "," or "]" after a bare value
                return token.start() - window.at, ""
            elif sign in b"]}":
                depth -= 1
                if depth == 0:
                    return token.end() - window.at, ""
            scanned = token.end() - window.at
        if len(window.data) - window.at > MAX_ITEM_BYTES:
            return 0, f"an item of more than {MAX_ITEM_BYTES >> 20} MiB, or a bracket or quote that is never closed"
        if not window.more():
            return 0, "cut: a bracket or quote is never closed"


def _is_whole(string: bytes) -> bool:
    body = string[1:]
    if not body.endswith(b'"'):
        return False
    backslashes = len(body[:-1]) - len(body[:-1].rstrip(b"\\"))
    return backslashes % 2 == 0
