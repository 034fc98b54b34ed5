"""The shape of the package: imports point down, heavy packages stay in models/ and train/, every file says what it is for."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "codevision_lite"
NAME = PACKAGE.name

# From the top to the bottom; a part (a module or a package of codevision_lite) imports from its own layer or from below.
LAYERS = (
    {"__main__", "cli", "commands"},
    {"miniature", "pipeline", "serve", "app", "doctor"},
    {"chat_api"},
    {"train", "bench", "report", "ask"},
    {"synth", "agent"},
    {"sandbox", "models", "reward"},
    {"protocol", "imaging", "geometry", "damage", "corruptions", "datasets"},
    {"records", "errors", "config", "convert", "files", "progress", "recipe"},
)
# Seconds to import, or not there without a GPU: only models/ and train/ may name them, and not in their __init__.py.
HEAVY = {"accelerate", "bitsandbytes", "datasets", "gradio", "peft", "tokenizers", "torch", "transformers", "trl", "unsloth"}
HOMES_OF_HEAVY = {"app", "models", "train"}  # app: gradio

FILES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(path: Path) -> set[str]:
    """The absolute names that a file imports, wherever in it; of `from codevision_lite import x`, the part x."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} line {node.lineno}: write the import in full, it is easier to search for"
            names.update(f"{NAME}.{alias.name}" for alias in node.names) if node.module == NAME else names.add(node.module or "")
    return names


def imported_parts(path: Path) -> set[str]:
    parts = {name.split(".")[1] for name in imported_names(path) if name.startswith(f"{NAME}.")}
    return parts - {part_of(path), "__version__"}


def is_light(path: Path) -> bool:
    return part_of(path) not in HOMES_OF_HEAVY or path.name == "__init__.py"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    level = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    part = part_of(path)
    assert part == "__init__" or part in level, f"{part} is in no layer: add it to LAYERS where it belongs"
    upward = {name for name in imported_parts(path) if level[name] < level.get(part, -1)}
    assert not upward, f"{path.name} is below {', '.join(sorted(upward))} and must not import from there"


def test_parts_do_not_import_each_other_in_a_circle():
    graph: dict[str, set[str]] = {}
    for path in FILES:
        graph.setdefault(part_of(path), set()).update(imported_parts(path))
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as e:
        pytest.fail(f"a circle of imports: {' -> '.join(e.args[1])}")


@pytest.mark.parametrize("path", [p for p in FILES if is_light(p)], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_stay_in_models_and_train(path):
    heavy = {name.split(".")[0] for name in imported_names(path)} & HEAVY
    assert not heavy, f"{path.name} imports {', '.join(sorted(heavy))}: only models/ and train/ may"


def test_starting_loads_no_heavy_package():
    light = [p.relative_to(PACKAGE.parent).with_suffix("") for p in FILES if is_light(p) and p.stem != "__main__"]
    modules = [".".join(p.parts).removesuffix(".__init__") for p in light]
    code = f"import sys, {', '.join(modules)}\nprint(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_every_file_says_what_it_is_for():
    silent = [str(p.relative_to(PACKAGE)) for p in FILES if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))]
    assert silent == []
    assert [p for p in FILES if p.stem in {"utils", "helpers", "common", "misc"}] == []
