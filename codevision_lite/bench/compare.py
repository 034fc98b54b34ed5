"""Two runs of one benchmark, paired by item: who is better, by how much, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codevision_lite.bench.metrics import paired
from codevision_lite.bench.run import ROWS
from codevision_lite.errors import UserError
from codevision_lite.files import read_jsonl

_SAME = ("benchmark", "switches")  # of the config: else the scores mean different things
_NAMED = ("file", "n", "seed", "tools", "max_turns", "max_reply_tokens", "max_tokens", "max_images", "quantize")


def compare(a: Path, b: Path) -> dict[str, Any]:
    """B less A on the items that both have rows of: for each damage, and over all. "differs": settings that are not the same.

    Raises UserError where they are runs of different benchmarks or rules, or share no item."""
    first, second = _results(a), _results(b)
    configs = [results["context"]["config"] for results in (first, second)]
    for name in _SAME:
        if configs[0][name] != configs[1][name]:
            raise UserError(f"{a} and {b} can't be compared: {name} is {configs[0][name]} there and {configs[1][name]} here")
    rows_a, rows_b = _rows(a), _rows(b)
    shared = [key for key in rows_a if key in rows_b]
    if not shared:
        raise UserError(f"{a} and {b} share no item: run both with the same --n, --seed and --damage")
    damages = list(dict.fromkeys(rows_a[key]["condition"] for key in shared))
    parts = {d: [key for key in shared if rows_a[key]["condition"] == d] for d in damages}
    if len(damages) > 1:
        parts["all"] = shared
    return {
        "a": _name(a, first), "b": _name(b, second), "benchmark": first["benchmark"],
        "conditions": [{"condition": name, **_difference(keys, rows_a, rows_b, configs[0]["seed"])} for name, keys in parts.items()],
        "n_only_a": len(rows_a) - len(shared), "n_only_b": len(rows_b) - len(shared),
        "differs": _differences(configs, first, second),
    }  # fmt: skip


def comparison_text(result: dict[str, Any]) -> str:
    """The comparison as a table of plain text."""
    head = f"{'condition':<18}{'n':>6}{'A %':>8}{'B %':>8}   {'B - A, points [95 %]':<24}{'A only':>7}{'B only':>7}{'McNemar p':>11}"
    lines = [result["benchmark"], f"A: {result['a']}", f"B: {result['b']}", head, "-" * len(head)]
    for row in result["conditions"]:
        change = f"{100 * row['difference']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
        lines.append(
            f"{row['condition'][:17]:<18}{row['n']:>6}{100 * row['mean_a']:>8.1f}{100 * row['mean_b']:>8.1f}   {change:<24}"
            f"{row['only_a']:>7}{row['only_b']:>7}{row['p_value']:>11.4f}"
        )
    lines.append("Interval: paired bootstrap over pictures. McNemar's exact test takes items as independent.")
    if result["n_only_a"] or result["n_only_b"]:
        lines.append(f"Not paired: {result['n_only_a']} items of A, {result['n_only_b']} of B.")
    lines += [f"Differs: {line}" for line in result["differs"]]
    return "\n".join(lines)


def _difference(keys: Sequence[str], a: dict[str, Any], b: dict[str, Any], seed: int) -> dict[str, Any]:
    values_a, values_b = [a[k]["value"] for k in keys], [b[k]["value"] for k in keys]
    result = paired(values_a, values_b, [a[k]["group"] for k in keys], seed)
    return {**asdict(result), "mean_a": sum(values_a) / len(keys), "mean_b": sum(values_b) / len(keys)}


def _differences(configs: Sequence[dict[str, Any]], first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    found = [f"{name}: {configs[0].get(name)} / {configs[1].get(name)}" for name in _NAMED if configs[0].get(name) != configs[1].get(name)]
    for name in ("max_pixels", "commit"):
        values = [results["context"].get(name) for results in (first, second)]
        found += [f"{name}: {values[0]} / {values[1]}"] if values[0] != values[1] else []
    return found


def _results(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        results["context"]["config"]["benchmark"]
    except FileNotFoundError as e:
        raise UserError(f"{folder}: no results there (results.json). Make them with: codevision-lite bench NAME --out {folder}") from e
    except (OSError, ValueError, LookupError, TypeError) as e:
        raise UserError(f"{path}: not the results of a benchmark. Write them again with: codevision-lite rescore {folder}") from e
    return results


def _rows(folder: Path) -> dict[str, dict[str, Any]]:
    keep = ("id", "value", "group", "condition")
    return {row["id"]: row for row in read_jsonl(folder / ROWS, lambda row: {k: row[k] for k in keep}, cut_tail=True)}


def _name(folder: Path, results: dict[str, Any]) -> str:
    return f"{results['model']} ({folder})"
