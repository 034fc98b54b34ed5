"""The experiment from start to end, and everything it measured as JSON: results.json, a printed table, and the report.

    codevision-lite miniature recipes/miniature.yaml [seeds=1 recipe.rl.steps=20 ...] [--report-only]
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codevision_lite.bench.context import commit, cpu
from codevision_lite.bench.tool_use import operations_of
from codevision_lite.config import plain, recipe_hash
from codevision_lite.errors import UserError
from codevision_lite.files import write_atomic
from codevision_lite.miniature.claims import Effect, Known, Results, decide, is_met, measure, sides
from codevision_lite.miniature.measures import METRICS, Item, read_items, value_of
from codevision_lite.miniature.plan import BEFORE, GROUPS, Miniature, Part
from codevision_lite.miniature.runs import run_all
from codevision_lite.pipeline import STAGES

RESULTS = "results.json"
ITEMS = "items.json"  # of a seed's folder
# Of the printed table: heading -> condition or group, metric
_COLUMNS = {
    "upright": ("upright", "accuracy"), "turned": ("orientations", "accuracy"), "crop": ("crop", "accuracy"),
    "both": ("orientation+crop", "accuracy"), "corrupt": ("corruption", "accuracy"), "transp": ("transpose", "accuracy"),
    "turns": ("all", "tool_turns"), "beyond": ("all", "extra_turns"), "hacked": ("all", "hacked"),
}  # fmt: skip


def miniature(plan: Miniature, report_only: bool = False) -> None:
    """Run what is not done, then write results.json and report.html and print the table. Raises UserError at the end where a run failed."""
    folder = Path(plan.run_folder)
    started = time.time()
    try:
        failed = {} if report_only else run_all(plan)
    except KeyboardInterrupt:
        _minutes(folder, (time.time() - started) / 60)  # what was stopped took its time too
        raise
    minutes = _minutes(folder, (time.time() - started) / 60)
    from codevision_lite.miniature.page import write_page

    print("reading the results", flush=True)
    results, known = load_results(plan)
    if not any(results.values()):
        raise UserError(f"{folder}: no arm has been evaluated yet. {_first(failed)}Run it with: make miniature")
    summary = summarise(plan, results, known, minutes)
    write_atomic(folder / RESULTS, json.dumps(summary, indent=1))
    path = write_page(plan, summary)
    print(table(summary))
    print(f"report: {path}")
    if failed:
        raise UserError(f"{len(failed)} of the runs failed. {_first(failed)}The same command tries them again")


def load_results(plan: Miniature) -> tuple[Results, Known]:
    """The items of every arm that is evaluated in full, and the operations of each seed's SFT data.

    Both are kept in the seed's folder (ITEMS), which is enough to judge a seed whose other files are elsewhere.
    """
    results: dict[int, dict[str, list[Item]]] = {}
    known: dict[int, set[str]] = {}
    for seed in plan.seed_list:
        path = Path(plan.run_folder) / f"seed{seed}" / ITEMS
        known[seed], kept = _read_kept(path)
        rows = plan.folder("sft", seed) / "data" / "sft.jsonl"
        if rows.exists():
            known[seed] = operations_of(rows)
        results[seed] = {}
        for arm in plan.all_arms:
            folder, stage = plan.folder(arm, seed), arm if arm in BEFORE else STAGES[-1]
            config = recipe_hash(plan.start_recipe(seed) if arm in BEFORE else plan.arm_recipe(arm, seed))
            if _is_evaluated(folder, stage):
                kept[arm] = config, read_items(folder, stage)
            if arm in kept and kept[arm][0] == config:
                results[seed][arm] = kept[arm][1]
            elif arm in kept:
                print(f"{path}: {arm} was made with another recipe and is left out", flush=True)
        if results[seed]:
            _keep(path, known[seed], kept)
    return results, known


def _read_kept(path: Path) -> tuple[set[str], dict[str, tuple[str, list[Item]]]]:
    """(operations of the SFT data, arm -> hash of its recipe and its items) of ITEMS; empty where it is not there."""
    if not path.exists():
        return set(), {}
    try:
        kept = json.loads(path.read_text())
        arms = {name: (arm["config_hash"], [Item.from_json(item) for item in arm["items"]]) for name, arm in kept["arms"].items()}
        return set(kept["sft_operations"]), arms
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise UserError(f"{path}: not what a report keeps of a seed. Copy it again, or remove it") from e


def _keep(path: Path, operations: set[str], arms: dict[str, tuple[str, list[Item]]]) -> None:
    """Write ITEMS, unless it says the same already."""
    rows = {name: {"config_hash": config, "items": [item.to_json() for item in items]} for name, (config, items) in arms.items()}
    text = json.dumps({"sft_operations": sorted(operations), "arms": rows})
    if not path.exists() or path.read_text() != text:
        write_atomic(path, text)


def summarise(plan: Miniature, results: Results, known: Known, minutes: float) -> dict[str, Any]:
    """The object of results.json."""
    return {
        "seeds": plan.seed_list, "conditions": list(plan.conditions), "n_per_condition": plan.recipe.eval.n_per_condition,
        "claims": [_claim(name, plan, results, known) for name in plan.claims],
        "targets": [_target(i, plan, results, known) for i in range(len(plan.targets))],
        "arms": {arm: _arm(arm, plan, results, known) for arm in plan.all_arms},
        "missing": [f"seed{seed}/{arm}" for seed in plan.seed_list for arm in plan.all_arms if arm not in results[seed]],
        "context": {
            "commit": commit(), "processor": cpu(), "minutes": round(minutes, 1), "config_hash": recipe_hash(plan.recipe),
            "jobs": plan.jobs, "hardware": _hardware(plan),
        },
        "recipe": plain(plan),
    }  # fmt: skip


def _arm(arm: str, plan: Miniature, results: Results, known: Known) -> dict[str, Any]:
    """Every metric on every condition and group, a value for each seed and their mean."""
    found: dict[str, Any] = {}
    for name in (*plan.conditions, *GROUPS):
        own = plan.conditions_of((name,))
        chosen = {seed: [i for i in results[seed][arm] if i.condition in own] for seed in results if arm in results[seed]}
        cells = {}
        for metric in METRICS:
            values = {seed: value_of(metric, items, known[seed]) for seed, items in chosen.items()}
            numbers = [v for v in values.values() if v is not None]
            cells[metric] = {"mean": sum(numbers) / len(numbers) if numbers else None, "seeds": values}
        found[name] = {"n": sum(map(len, chosen.values())), "metrics": cells}
    return found


def _claim(name: str, plan: Miniature, results: Results, known: Known) -> dict[str, Any]:
    claim = plan.claims[name]
    verdict, parts = decide(claim, plan, results, known)
    rows = [{**_measured(p.part, plan, p.effect), "verdict": p.verdict, "why": p.why} for p in parts]
    return {"name": name, "says": claim.says, "verdict": verdict, "parts": rows}


def _target(number: int, plan: Miniature, results: Results, known: Known) -> dict[str, Any]:
    target = plan.targets[number]
    effect = measure(target.part, plan, results, known)
    return {"says": target.says, "met": is_met(target, effect), **_measured(target.part, plan, effect)}


def _measured(part: Part, plan: Miniature, effect: Effect | None) -> dict[str, Any]:
    return {"test": plain(part), "effect": effect and asdict(effect), "sides": [asdict(side) for side in sides(part, plan)]}


def table(summary: dict[str, Any]) -> str:
    """The table that ends the command: plain ASCII, at most 110 columns."""
    seeds = ", ".join(map(str, summary["seeds"]))
    lines = ["", f"{'claim':<7}{'verdict':<15}{'effect [95 %]':<34}what it says"]
    lines.append("-" * 110)
    for claim in summary["claims"]:
        for number, part in enumerate(claim["parts"]):
            first = number == 0
            head = f"{claim['name']:<7}{claim['verdict']:<15}" if first else " " * 22
            lines.append(f"{head}{effect_text(part):<34}{claim['says'][:54] if first else f'part {number + 1}: ' + part['verdict']}")
    lines += ["", f"{'target':<12}{'measured':<24}what"]
    lines.append("-" * 110)
    for target in summary["targets"]:
        met = {True: "met", False: "not met", None: "not run"}[target["met"]]
        lines.append(f"{met:<12}{effect_text(target, interval=False):<24}{target['says'][:72]}")
    lines += ["", f"accuracy in %, and over all conditions tool turns, those beyond required, and hacked; seeds {seeds}"]
    lines.append(f"{'arm':<16}" + "".join(f"{name:>9}" for name in _COLUMNS))
    lines.append("-" * (16 + 9 * len(_COLUMNS)))
    for arm, found in summary["arms"].items():
        lines.append(f"{arm:<16}" + "".join(f"{_cell(found, *where):>9}" for where in _COLUMNS.values()))
    if summary["missing"]:
        lines.append(f"not run: {', '.join(summary['missing'])}")
    context = summary["context"]
    lines.append(f"{context['minutes']:.0f} min | {context['config_hash']} | {context['commit']} | {context['hardware']}")
    return "\n".join(lines)


def effect_text(row: dict[str, Any], interval: bool = True) -> str:
    """ "+12.3 points [+4.0, +20.6]": shares in percent (points where sides are compared), turns as they are."""
    effect = row["effect"]
    if effect is None:
        return "not run"
    if effect["mean"] is None:
        return "nothing to measure"
    compared = len(row["sides"]) > 1
    share = METRICS[row["test"]["metric"]].unit == "share"
    unit = (" points" if compared else " %") if share else " turns"
    form = ("+" if compared else "") + (".1f" if share else ".2f")
    values = [format(effect[key] * (100 if share else 1), form) for key in ("mean", "low", "high") if effect[key] is not None]
    return f"{values[0]}{unit}" + (f" [{values[1]}, {values[2]}]" if interval and len(values) == 3 else "")


def _cell(found: dict[str, Any], condition: str, metric: str) -> str:
    value = found.get(condition, {}).get("metrics", {}).get(metric, {}).get("mean")
    if value is None:
        return "-"
    return f"{100 * value:.1f}" if METRICS[metric].unit == "share" else f"{value:.2f}"


def _is_evaluated(folder: Path, stage: str) -> bool:
    path = folder / RESULTS
    return path.exists() and any(s["name"] == stage for s in json.loads(path.read_text())["stages"])


def _minutes(folder: Path, now: float) -> float:
    """Wall time over all calls, kept beside the results."""
    path = folder / "minutes.json"
    total = now + (json.loads(path.read_text()) if path.exists() else 0.0)
    write_atomic(path, json.dumps(round(total, 2)))
    return total


def _hardware(plan: Miniature) -> str:
    """As the arms' own results say: the parent loads no torch."""
    for seed in plan.seed_list:
        path = plan.folder("base", seed) / RESULTS
        if path.exists() and (named := json.loads(path.read_text()).get("context", {}).get("hardware")):
            return named
    return cpu()


def _first(failed: dict[str, str]) -> str:
    return next((f"{name}: {why}. " for name, why in failed.items()), "")
