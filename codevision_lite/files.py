"""Files that survive a crash: atomic writes, JSONL that is never half a row, and an early word when the disk is full.

What the user can fix (no such file, no permission, no space, a broken row) becomes a UserError that names the file and the row.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from codevision_lite.errors import UserError

T = TypeVar("T")

_FIXES = {
    errno.ENOSPC: "no space left on this disk. Free some, or choose a folder on another disk",
    errno.EDQUOT: "your disk quota is used up. Free some, or choose another folder",
    errno.EACCES: "no permission. Choose a folder that you may write to",
    errno.EPERM: "no permission. Choose a folder that you may write to",
    errno.EROFS: "this disk is read-only. Choose another folder",
    errno.ENOTDIR: "part of this path is a file, not a folder. Choose another path",
    errno.EISDIR: "this is a folder, a file is needed. Choose another path",
    errno.ENOENT: "no such file",
}


@contextmanager
def explain_os_errors(path: str | Path) -> Iterator[None]:
    """Turn the OSErrors that a user can fix into a UserError that starts with `path`; let the others pass."""
    try:
        yield
    except OSError as e:
        if e.errno not in _FIXES:
            raise
        raise UserError(f"{path}: {_FIXES[e.errno]}") from e


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Write a whole file or nothing: readers see the old content or the new one, also after a crash. Makes the folder.

    Raises UserError where the disk is full or not writable."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(unfinished, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    return path


def append_jsonl(path: str | Path, row: dict[str, Any]) -> None:
    """Append one row. A last line that a crash cut in the middle is removed first. NaN and infinity are written as null.

    Raises UserError where the disk is full or not writable."""
    path = Path(path)
    line = json.dumps(_plain(row), ensure_ascii=False, allow_nan=False).encode() + b"\n"
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b", buffering=0) as file:
            _end_last_line(file)
            if file.write(line) != len(line):  # a short write: the disk is full
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_jsonl(path: str | Path, parse: Callable[[dict[str, Any]], T] = dict, *, cut_tail: bool = False) -> list[T]:
    """Read all rows through `parse` (for example `Sample.from_json`); empty lines are skipped.

    `cut_tail`: accept, and leave out, a last line without its end, as a stopped run leaves it.
    Raises UserError with the file, the row's line number and the reason; `parse` may raise KeyError, TypeError or ValueError."""
    with explain_os_errors(path):
        lines = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if cut_tail and not _is_json(lines[-1]):
        lines.pop()
    return [_parse_line(path, number, line, parse) for number, line in enumerate(lines, 1) if line.strip()]


def require_space(path: str | Path, needed_bytes: int) -> None:
    """Raise UserError if the disk that holds (or will hold) `path` has less than `needed_bytes` free."""
    folder = Path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        sizes = f"{needed_bytes / 2**20:,.0f} MiB needed, {free / 2**20:,.0f} MiB free"
        raise UserError(f"{path}: {sizes}. Free some space, or choose a folder on another disk")


def _parse_line(path: str | Path, number: int, line: bytes, parse: Callable[[dict[str, Any]], T]) -> T:
    where = f"{path} line {number}"
    try:
        row = json.loads(line)
    except UnicodeDecodeError as e:
        raise UserError(f"{where}: not UTF-8 text (byte {e.start + 1})") from e
    except json.JSONDecodeError as e:
        raise UserError(f"{where}: not JSON: {e.msg} (column {e.colno})") from e
    if not isinstance(row, dict):
        raise UserError(f"{where}: a JSON object {{...}} is needed, got {type(row).__name__}")
    try:
        return parse(row)
    except KeyError as e:
        raise UserError(f"{where}: field {e.args[0]!r} is missing (fields: {', '.join(row) or 'none'})") from e
    except (TypeError, ValueError, AttributeError) as e:  # AttributeError: a field of another type, such as null for an object
        raise UserError(f"{where}: {e}") from e


def _end_last_line(file: Any) -> None:
    """Let an open file end with a newline, or be empty: drop a last line that was cut, end one that is whole."""
    end = file.seek(0, os.SEEK_END)
    tail = b""
    start = end
    while start > 0 and b"\n" not in tail:
        step = min(start, 65536)
        start = file.seek(start - step)
        tail = file.read(step) + tail
    last = tail[tail.rfind(b"\n") + 1 :]
    if last and _is_json(last):
        file.write(b"\n")
    elif last:
        file.truncate(end - len(last))


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _plain(value: Any) -> Any:
    """`value` in JSON's types: numpy scalars and arrays and paths converted, NaN and infinity as None."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays, torch tensors
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
