"""Checkpoints that are whole or not there: written under another name, flushed, listed, renamed; old ones go afterwards.

A kill, a crash or a full disk at any moment leaves the previous checkpoint as it was, and the run goes on from it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from codevision_lite.errors import UserError
from codevision_lite.files import write_atomic

UNFINISHED = "unfinished"  # where a checkpoint is written; never resumed from
_FILES = "files.json"  # in each checkpoint: the size in bytes of each of its files
_NAME = re.compile(r"checkpoint-(\d+)")
# How a write ends that the disk, a quota or a limit on file sizes refused: safetensors' and torch's errors carry no errno.
_REFUSED = re.compile(
    r"No space left|Disk quota|File too large|os error (27|28|122)\b|file write failed|PytorchStreamWriter|inline_container"
)


def checkpoint_bytes(model: Any) -> int:
    """Upper estimate of a checkpoint on disk: the trained weights and AdamW's two moments in float32, and 2 MiB of the rest."""
    return 12 * sum(p.numel() for p in model.parameters() if p.requires_grad) + 2 * 2**20


def checkpoint_step(folder: Path) -> int:
    """The number of optimizer steps behind a checkpoint, from its name."""
    match = _NAME.fullmatch(folder.name)
    assert match, f"{folder} is no checkpoint"
    return int(match.group(1))


def checkpoints(folder: Path) -> list[Path]:
    """All of them in `folder`, whole or not, the oldest first."""
    return sorted((p for p in folder.glob("checkpoint-*") if _NAME.fullmatch(p.name)), key=checkpoint_step)


def seal(written: Path, folder: Path, keep: int) -> Path:
    """Move a checkpoint that is completely written into `folder`, then remove all but the last `keep`."""
    sizes = {str(p.relative_to(written)): p.stat().st_size for p in sorted(written.rglob("*")) if p.is_file()}
    write_atomic(written / _FILES, json.dumps(sizes, indent=1))
    flush(written)
    final = folder / written.name
    shutil.rmtree(final, ignore_errors=True)  # of the same step, from before the run was taken up again
    written.rename(final)
    _flush_one(folder)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def last_checkpoint(folder: Path) -> Path | None:
    """The last whole checkpoint, or None. What a kill or a full disk left unfinished is removed."""
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    for checkpoint in reversed(checkpoints(folder)):
        if _is_whole(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def reached_step(folder: Path) -> int:
    """The step of the last whole checkpoint, 0 without one. Removes nothing."""
    return next((checkpoint_step(c) for c in reversed(checkpoints(folder)) if _is_whole(c)), 0)


def flush(folder: Path) -> None:
    """Every file below `folder` onto the disk: a rename that outlives a power cut must not outlive its contents."""
    for path in (*folder.rglob("*"), folder):
        _flush_one(path)


@contextmanager
def explain_refused_write(what: str, folder: Path, needed: int) -> Iterator[None]:
    """Turn a write that found no room into a UserError that says how much is needed where. `needed`: bytes."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as e:
        no_room = isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if not no_room and not _REFUSED.search(str(e)):
            raise
        free = shutil.disk_usage(folder).free
        raise UserError(
            f"{folder}: {what} could not be written: it needs about {_mib(needed)}, {_mib(free)} are free there (a quota or a limit on "
            f"file sizes may be lower). Make room; {_kept(folder)}"
        ) from e


def require_room(what: str, folder: Path, needed: int) -> None:
    """Raise UserError, before anything is written, where the disk of `folder` has less than `needed` bytes free."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(f"{folder}: {what} needs about {_mib(needed)}, {_mib(free)} are free there. Make room; {_kept(folder)}")


def _kept(folder: Path) -> str:
    whole = [p for p in checkpoints(folder) if _is_whole(p)]
    return f"{whole[-1].name} is whole, and the same command goes on from it" if whole else "the same command starts the stage again"


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
        listed = checkpoint / _FILES
        sizes = json.loads(listed.read_text()) if listed.exists() else {}  # none: transformers' own, which writes the state last
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def _flush_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _mib(n: int) -> str:
    return f"{n / 2**20:,.0f} MiB"
