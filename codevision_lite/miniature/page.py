"""report.html of the experiment: verdicts at a glance, targets, arms by conditions, tool behaviour, training, examples, how it was made.

Everything is written from results.json's object and the arms' run folders; what is not there says "not run".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from codevision_lite.files import read_jsonl, write_atomic
from codevision_lite.miniature.charts import COLOURS, arms_chart, interval_chart
from codevision_lite.miniature.measures import METRICS
from codevision_lite.miniature.plan import GROUPS, Miniature
from codevision_lite.miniature.results import effect_text
from codevision_lite.report.load import condition_label, load_run
from codevision_lite.report.page import document
from codevision_lite.report.training import metric_series
from codevision_lite.report.trajectories import trajectories_html
from codevision_lite.reward.monitor import TOOL_USE

_SIGNS = {"confirmed": "✓", "not confirmed": "✗", "inconclusive": "?", "not run": "–", "met": "✓", "not met": "✗"}
_LABELS = {
    "corruption": "corrupted, severity 3", "transpose": "mirrored on the diagonal, never trained on",
    "orientations": "turned, mean of five", "all": "all conditions", "trained_on": "conditions of the training data",
}  # fmt: skip
_HOW = (
    "A claim is not confirmed when the 95 % interval of a part lies on the other side or short of the margin (dotted), confirmed when all "
    "lie on the claimed side (shaded), else inconclusive. The tests were fixed in the recipe before the runs. "
)
_ONE_SEED = "One seed: intervals are over items, and say nothing of another training run."
_SEEDS = "Intervals: Student's t over the seeds that have all arms of the part; with one such seed, over items."
# Metrics of training that are plotted: name in metrics.jsonl -> what it is
_PLOTTED = {
    "reward/accuracy": "accuracy of the rollouts", "reward/must_use": "required operations achieved, by evidence",
    "rollout/tool_turns": "tool turns for a rollout", TOOL_USE: "rollouts with a tool turn, where tools are required",
    "rollout/error_rate": "rollouts with a failed run", "monitor/brute_force": "rollouts that try orientations out",
}  # fmt: skip
_BEHAVIOUR = tuple(name for name in METRICS if name != "accuracy")


def write_page(plan: Miniature, summary: Mapping[str, Any]) -> Path:
    """Write report.html into the experiment's folder and return its path."""
    return write_atomic(Path(plan.run_folder) / "report.html", page_html(plan, summary))


def page_html(plan: Miniature, summary: Mapping[str, Any]) -> str:
    """The whole page, self-contained."""
    sections = {
        "Claims": _claims(summary), "Targets": _targets(summary), "Accuracy on held-out pictures": _accuracy(summary),
        "Tool behaviour": _behaviour(summary), "Training": _training(plan), "Before and after RL": _examples(plan),
    }  # fmt: skip
    body = "".join(
        f'<section aria-labelledby="s{i}"><h2 id="s{i}">{name}</h2>{html}</section>' for i, (name, html) in enumerate(sections.items())
    )
    lead = f'<p class="conclusion">{escape(conclusion(summary))}</p>'
    page = document("The paper's claims in miniature", lead, f"<main>{body}</main>\n{_footer(plan, summary)}")
    style = (files(__package__) / "page.css").read_text(encoding="utf-8")
    hidden = "".join(f"body:has(#show-{i}:not(:checked)) .arm-{i} {{ display: none; }}\n" for i in range(len(plan.arms)))
    return page.replace("</style>", f"{style}{hidden}</style>", 1)


def conclusion(summary: Mapping[str, Any]) -> str:
    """One sentence: how many claims came out how, on what."""
    verdicts = [claim["verdict"] for claim in summary["claims"]]
    counts = [f"{verdicts.count(v)} {v}" for v in ("confirmed", "not confirmed", "inconclusive", "not run") if v in verdicts]
    met = [target["met"] for target in summary["targets"]]
    n = len(summary["seeds"])
    said = f"Of {len(verdicts)} claims, {', '.join(counts)}; {sum(m is True for m in met)} of {len(met)} targets met"
    seeds = f"{n} seed{'' if n == 1 else 's'}"
    return f"{said} ({seeds}, {summary['n_per_condition']} held-out pictures of each condition, the tiny model)."


def _claims(summary: Mapping[str, Any]) -> str:
    items = "".join(_claim(claim) for claim in summary["claims"])
    note = _HOW + (_ONE_SEED if len(summary["seeds"]) == 1 else _SEEDS)
    return f'<ol class="claims">{items}</ol><p class="note">{note}</p>' if items else '<p class="missing">No claims in the recipe.</p>'


def _claim(claim: Mapping[str, Any]) -> str:
    parts = "".join(_part(part, len(claim["parts"]) > 1) for part in claim["parts"])
    head = f'<h3>({escape(claim["name"])}) {escape(claim["says"])}</h3>{_chip(claim["verdict"])}'
    return f'<li class="claim"><div>{head}</div><div class="parts">{parts}</div></li>'


def _part(part: Mapping[str, Any], several: bool) -> str:
    effect, test = part["effect"], part["test"]
    chart = ""
    if effect and effect["low"] is not None:
        more = test["at_least"] is not None
        limit = test["at_least"] if more else test["at_most"]
        text = f"Effect {effect_text(part)}; claimed: {_limit(part)}"
        chart = interval_chart(effect["mean"], effect["low"], effect["high"], limit, more, test["margin"], text)
    verdict = f" {_chip(part['verdict'])}" if several else ""
    return (
        f'<div class="part"><div>{chart or "<p class=missing>no interval</p>"}</div><div><p><b>{escape(effect_text(part))}</b>{verdict}</p>'
        f'<p>{escape(METRICS[test["metric"]].label)}: {escape(_sides(part))}</p>'
        f'<p class="note">claimed: {escape(_limit(part))}; {escape(part["why"])}{_method(effect)}</p></div></div>'
    )


def _targets(summary: Mapping[str, Any]) -> str:
    rows = [
        [escape(t["says"]), _chip({True: "met", False: "not met", None: "not run"}[t["met"]]), escape(effect_text(t, interval=False)),
         escape(_sides(t))]
        for t in summary["targets"]
    ]  # fmt: skip
    return _table(("target", "", "measured", "from"), rows, "Means over the seeds; no interval decides a target.") if rows else ""


def _accuracy(summary: Mapping[str, Any]) -> str:
    names = [*summary["conditions"], "orientations"]
    rows = [
        [escape(_arm(arm)), *(_cell(found[name]["metrics"]["accuracy"], "share") for name in names)]
        for arm, found in summary["arms"].items()
    ]
    n = max((found["orientations"]["n"] for found in summary["arms"].values()), default=0)
    note = f"Accuracy in %, mean over the seeds; small: the lowest and the highest seed. Turned pictures: n = {n} over all seeds."
    return _table(("arm", *(_label(name) for name in names)), rows, note)


def _behaviour(summary: Mapping[str, Any]) -> str:
    rows = [
        [escape(_arm(arm)), *(_cell(found["all"]["metrics"][name], METRICS[name].unit) for name in _BEHAVIOUR)]
        for arm, found in summary["arms"].items()
    ]
    meanings = "".join(f"<div><dt>{escape(METRICS[n].label)}</dt><dd>{escape(METRICS[n].meaning)}</dd></div>" for n in _BEHAVIOUR)
    note = "Over all conditions; shares in %. From what ran, never from the code's text."
    table = _table(("arm", *(METRICS[n].label for n in _BEHAVIOUR)), rows, note)
    return f'{table}<details><summary>What each column counts</summary><dl class="facts">{meanings}</dl></details>'


def _training(plan: Miniature) -> str:
    series = {arm: [_metrics(plan.folder(arm, seed)) for seed in plan.seed_list] for arm in plan.arms}
    figures = ""
    for name, meaning in _PLOTTED.items():
        lines = {arm: [seed[name] for seed in seeds if name in seed] for arm, seeds in series.items()}
        if any(lines.values()):
            chart = arms_chart(lines, meaning, plan.recipe.rl.steps)
            figures += f'<figure class="metric"><figcaption>{escape(name)}</figcaption><p>{escape(meaning)}</p>{chart}</figure>'
    if not figures:
        return '<p class="missing">Training: not run.</p>'
    keys = "".join(
        f'<label><input type="checkbox" id="show-{i}" checked><svg viewBox="0 0 34 10" aria-hidden="true">'
        f'<line class="key a{i % COLOURS}" x1="0" x2="34" y1="5" y2="5" stroke-width="3"/></svg>{escape(arm)}</label>'
        for i, arm in enumerate(plan.arms)
    )
    note = f"Bold: running mean over the seeds; faint: each seed. Rollouts of training, at temperature {plan.recipe.rl.temperature:g}."
    choice = f'<fieldset class="arms"><legend class="note">{note} Shown arms:</legend>{keys}</fieldset>'
    return f'{choice}<div class="over-steps">{figures}</div>'


def _examples(plan: Miniature) -> str:
    for arm in plan.arms:
        for seed in plan.seed_list:
            folder = plan.folder(arm, seed)
            attempts = load_run(folder).attempts if (folder / "trajectories.jsonl").exists() else ()
            if any(attempt.stage == "grpo" for attempt in attempts):
                where = f"The same items before and after RL with the arm {arm} (seed {seed}). All of them: codevision-lite view {folder}"
                return f'<p class="note">{escape(where)}</p>{trajectories_html(attempts)}'
    return '<p class="missing">No arm has been evaluated yet.</p>'


def _footer(plan: Miniature, summary: Mapping[str, Any]) -> str:
    facts = {"seeds": ", ".join(map(str, summary["seeds"])), **{k.replace("_", " "): v for k, v in summary["context"].items()}}
    facts["arms"] = "; ".join(f"{arm}: {' '.join(changes)}" for arm, changes in plan.arms.items())
    if summary["missing"]:
        facts["not run"] = ", ".join(summary["missing"])
    items = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(str(v))}</dd></div>" for k, v in facts.items())
    recipe = escape(json.dumps(summary["recipe"], indent=1))
    folded = f'<details><summary>The resolved recipe</summary><pre tabindex="0">{recipe}</pre></details>'
    return f'<footer><h2>How these numbers were made</h2><dl class="facts">{items}</dl>{folded}</footer>'


def _metrics(folder: Path) -> dict[str, list[tuple[float, float]]]:
    path = folder / "metrics.jsonl"
    return metric_series(read_jsonl(path, cut_tail=True), "grpo") if path.exists() else {}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """Rows of HTML cells; the first of each is its heading."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>' for first, *rest in rows)
    table = f'<table class="numbers"><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll" role="region" aria-label="{escape(caption[:60])}" tabindex="0">{table}</div>'


def _cell(cell: Mapping[str, Any], unit: str) -> str:
    if cell["mean"] is None:
        return "–" if cell["seeds"] else '<span class="missing">not run</span>'
    values = [v for v in cell["seeds"].values() if v is not None]
    spread = f"<small>{_number(min(values), unit)}–{_number(max(values), unit)}</small>" if len(values) > 1 else ""
    return f"{_number(cell['mean'], unit)}{spread}"


def _number(value: float, unit: str) -> str:
    return f"{100 * value:.1f}" if unit == "share" else f"{value:.2f}"


def _chip(verdict: str) -> str:
    return f'<span class="verdict {verdict.replace(" ", "-")}"><span aria-hidden="true">{_SIGNS[verdict]} </span>{verdict}</span>'


def _limit(part: Mapping[str, Any]) -> str:
    """ "above 0 points; surely less than 2 counts as none": the test in words."""
    test = part["test"]
    share = METRICS[test["metric"]].unit == "share"
    unit = ("points" if len(part["sides"]) > 1 else "%") if share else "turns"
    more = test["at_least"] is not None
    limit = (test["at_least"] if more else test["at_most"]) * (100 if share else 1)
    margin = test["margin"] * (100 if share else 1)
    none = f"; an effect surely below {margin:g} counts as none" if margin else ""
    return f"{'above' if more else 'below'} {limit:g} {unit}{none}"


def _sides(part: Mapping[str, Any]) -> str:
    """The numbers that an effect is made of: "dense 81.2 % (turned, mean of five), SFT 70.0 % (...)"."""
    values = part["effect"]["sides"] if part["effect"] else [None] * len(part["sides"])
    said = []
    for side, value in zip(part["sides"], values, strict=True):
        metric = METRICS[side["metric"]]
        number = "not measured" if value is None else f"{100 * value:.1f} %" if metric.unit == "share" else f"{value:.2f}"
        times = f"{-side['weight']:g} × " if side["weight"] not in (1.0, -1.0) else ""
        other = f", {metric.label}" if side["metric"] != part["test"]["metric"] else ""
        said.append(f"{_arm(side['arm'])} {times}{number} ({_where(side['conditions'])}{other})")
    return "; ".join(said)


def _where(conditions: Sequence[str]) -> str:
    for name, group in GROUPS.items():
        if group is not None and tuple(conditions) == tuple(group):
            return _label(name)
    return _label(conditions[0]) if len(conditions) == 1 else _label("all")


def _label(name: str) -> str:
    return _LABELS.get(name) or condition_label(name)


def _arm(name: str) -> str:
    return "SFT" if name == "sft" else name


def _method(effect: Mapping[str, Any] | None) -> str:
    if effect is None or effect["method"] == "none":
        return ""
    n = sum(value is not None for value in effect["values"].values())
    return f" ({n} seeds)" if effect["method"] == "t over seeds" else " (over the items of one seed)"
