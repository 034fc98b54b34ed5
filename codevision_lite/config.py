"""Recipes: nested frozen dataclasses <- a YAML file <- `key=value` overrides, checked before any work starts.

A recipe class is any frozen dataclass whose fields are int, float, bool, str, Path, Literal[...], X | None, tuple[...],
dict[str, X] or another such dataclass. Range checks belong in its `__post_init__`, as `raise ValueError("steps must be >= 1")`.
What is wrong becomes one UserError line: file, line, key, what was expected, and the nearest name where a key is unknown.

    recipe = load_recipe("recipes/demo.yaml", ["sft.steps=3"], cls=Recipe)
    resumed = claim_run_folder("runs/demo", recipe)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml

from codevision_lite.convert import Problem, build, set_override
from codevision_lite.errors import UserError
from codevision_lite.files import explain_os_errors, write_atomic

R = TypeVar("R")

CONFIG_NAME = "config.yaml"  # the resolved recipe, in every run folder
_DATA = "data"  # of a run folder


def load_recipe(path: str | Path, overrides: Sequence[str] = (), *, cls: type[R]) -> R:
    """Read a recipe file, apply the overrides (`sft.steps=3`, values in YAML) and build `cls`. Raises UserError."""
    path = Path(path)
    tree, lines = _read_yaml(path)
    try:
        for override in overrides:
            set_override(tree, override, cls)
        return build(cls, tree)
    except Problem as e:
        raise UserError(f"{_where(path, lines, e, overrides)}: {e}") from e


def dump_recipe(recipe: Any) -> str:
    """The recipe as YAML, every value written out; `load_recipe` reads it back to an equal recipe."""
    return yaml.safe_dump(plain(recipe), sort_keys=False, width=120)


def recipe_hash(recipe: Any, ignore: Sequence[str] = ("run_folder",)) -> str:
    """12 hex digits that change when any value changes, those of the top-level keys in `ignore` apart."""
    kept = {k: v for k, v in plain(recipe).items() if k not in ignore}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def claim_run_folder(folder: str | Path, recipe: Any, ignore: Sequence[str] = ("run_folder",)) -> bool:
    """Make `folder` this recipe's own and write the resolved recipe there; True if it held the same run already (resume).

    `ignore`: top-level keys that may differ, such as the folder's own name.
    Raises UserError if the folder holds anything else."""
    if holds_run(folder, recipe, ignore):
        return True
    write_atomic(Path(folder) / CONFIG_NAME, dump_recipe(recipe))
    return False


def holds_run(folder: str | Path, recipe: Any, ignore: Sequence[str] = ("run_folder",)) -> bool:
    """Whether `folder` holds this recipe's run already; False where it is free for it, as where there are only rows of one's own in
    data/. Writes nothing.

    Raises UserError as `claim_run_folder`."""
    folder = Path(folder)
    config = folder / CONFIG_NAME
    with explain_os_errors(folder):
        if config.exists():
            _check_same_run(config, recipe, ignore)
            return True
        if folder.exists() and any(not p.name.startswith(".") and p.name != _DATA for p in folder.iterdir()):
            raise UserError(f"{folder} is not empty and holds no run (no {CONFIG_NAME}). Choose another folder, or empty it")
    return False


def plain(value: Any) -> Any:
    """A recipe as dicts, lists and scalars."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _check_same_run(config: Path, recipe: Any, ignore: Sequence[str]) -> None:
    there, _ = _read_yaml(config)
    old, new = ({k: v for k, v in _flat(t).items() if k.split(".")[0] not in ignore} for t in (there, plain(recipe)))
    different = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
    if different:
        key = different[0]
        more = f" and {len(different) - 1} more" if len(different) > 1 else ""
        raise UserError(
            f"{config.parent} holds another run ({key}: {old.get(key)!r} there, {new.get(key)!r} now{more}). "
            f"Choose another folder, or remove it: rm -r {config.parent}"
        )


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The file's mapping, and the line of each of its dotted keys."""
    try:
        with explain_os_errors(path):
            text = path.read_text(encoding="utf-8-sig")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = _key_lines(node, path)
        tree = yaml.safe_load(text)
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not UTF-8 text") from e
    except yaml.MarkedYAMLError as e:
        line = f" line {e.problem_mark.line + 1}" if e.problem_mark else ""
        raise UserError(f"{path}{line}: not YAML: {e.problem}") from e
    except yaml.YAMLError as e:
        raise UserError(f"{path}: not YAML: {' '.join(str(e).split())}") from e
    except UserError as e:
        raise UserError(f"{e}{_other_recipes(path)}") from e
    if not isinstance(tree, dict | None):
        raise UserError(f"{path}: a recipe is 'key: value' lines, this is {type(tree).__name__}")
    return tree or {}, lines


def _key_lines(node: yaml.Node | None, path: Path, prefix: str = "", depth: int = 8) -> dict[str, int]:
    """Raises UserError for a key that is there twice: YAML itself would silently take the last."""
    lines: dict[str, int] = {}
    if not isinstance(node, yaml.MappingNode) or depth == 0:  # depth: an alias may contain itself
        return lines
    for key_node, value_node in node.value:
        key = f"{prefix}{key_node.value}"
        line = key_node.start_mark.line + 1
        if key in lines:
            raise UserError(f"{path} line {line}: {key} is already set in line {lines[key]}. Keep one of the two")
        lines[key] = line
        lines.update(_key_lines(value_node, path, f"{key}.", depth - 1))
    return lines


def _other_recipes(path: Path) -> str:
    """What a mistyped file name was probably meant to be."""
    if path.exists() or not path.parent.is_dir():
        return ""
    names = sorted(p.name for p in path.parent.glob("*.yaml"))
    near = get_close_matches(path.name, names, n=1)
    if near:
        return f"; did you mean {path.parent / near[0]}?"
    return f"; there are: {', '.join(names)}" if names else ""


def _where(path: Path, lines: dict[str, int], problem: Problem, overrides: Sequence[str]) -> str:
    """The override or the file and line that a problem comes from."""
    if problem.override:
        return problem.override
    touched = [o for o in overrides if not problem.key or o.startswith(f"{problem.key}.")]
    line = f" line {lines[problem.key]}" if problem.key in lines else ""
    return f"{path}{line}" + (f" with {' '.join(touched)}" if touched else "")
