"""What every check gives, and what mends a broken install. Python's own library alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parent.parent.parent  # of a checkout; an installed package has no recipes and no sample data beside it
DISTRIBUTION = "codevision-lite"
GIB = 2**30

Status = Literal["ok", "note", "problem"]  # note: works, with a limit that the user should know


@dataclass(frozen=True)
class Check:
    """One line of the answer. `fix`: what to do; empty where there is nothing to do."""

    name: str
    status: Status
    found: str
    fix: str = ""


def install(packages: list[str]) -> str:
    """The command that installs `packages`, or everything again where none is named."""
    if (ROOT / "Makefile").is_file():
        return "make setup"
    return f"pip install {' '.join(packages)}" if packages else f"install again: pip install --force-reinstall {DISTRIBUTION}"
