"""Shell completion by argcomplete: the line that a shell's profile reads, and what completes recipe files, keys and damages.

Each TAB runs the command once more with _ARGCOMPLETE set; `complete` then answers and ends the process. Nothing here is imported or
computed in any other call but the names of the functions.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from codevision_lite.errors import MissingPackage

SHELLS = ("bash", "zsh", "fish")


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks how the line could go on, and end the process; returns where none asks."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser, always_complete_options="long")


def print_completion(shell: str) -> None:
    """The script that `shell` reads once. Raises MissingPackage without argcomplete."""
    try:
        import argcomplete
    except ImportError as e:
        raise MissingPackage("completion needs argcomplete. Install it: pip install argcomplete") from e
    print(argcomplete.shellcode(["codevision-lite"], shell=shell).strip())


def recipe_files(prefix: str, **_: Any) -> list[str]:
    """Folders and YAML files below what is typed; with nothing typed also those of recipes/."""
    typed = Path(prefix)
    folder = typed if prefix.endswith("/") else typed.parent
    found = [*folder.glob("*"), *(Path("recipes").glob("*.yaml") if not prefix else ())]
    names = [f"{path}/" if path.is_dir() else str(path) for path in found if path.suffix == ".yaml" or path.is_dir()]
    return sorted({name for name in names if not Path(name).name.startswith(".")})


def recipe_keys(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """`rl.steps=` for every key of the verb's kind of recipe; behind the sign, the values where they are a short list."""
    from codevision_lite.miniature.plan import Miniature
    from codevision_lite.recipe import PretrainConfig, Recipe

    keys = dict(_keys({"tiny-base": PretrainConfig, "miniature": Miniature}.get(parsed_args.verb, Recipe)))
    key, sign, _value = prefix.partition("=")
    return [f"{key}={value}" for value in keys.get(key, ())] if sign else [f"{key}=" for key in keys]


def _keys(kind: type, prefix: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """(dotted key, its values where they are few) of a recipe class."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        if is_dataclass(hints[field.name]):
            yield from _keys(hints[field.name], f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", _values(hints[field.name])


def _values(hint: Any) -> tuple[str, ...]:
    if get_origin(hint) is Literal:
        return tuple(map(str, get_args(hint)))
    return ("true", "false") if hint is bool else ()


def damages(prefix: str, **_: Any) -> list[str]:
    """Names of damages; behind a comma, one more of them."""
    from codevision_lite.damage import CORRUPTIONS
    from codevision_lite.geometry import ORIENTATIONS

    before = prefix[: prefix.rfind(",") + 1]
    groups = () if before else ("all", "orientations", "corruptions", "none")
    return [f"{before}{name}" for name in (*groups, *ORIENTATIONS, *(f"{name}:3" for name in CORRUPTIONS))]
