"""Why saved trajectories earn what they earn: `codevision-lite score FILE.jsonl`, as tables for a terminal or as JSON.

Reads rows of {"sample": ..., "trajectory": ...}, as evaluation, training and synth write them. Rollouts of one prompt (equal
sample id, stage and step) are scored as a group. Answers are judged by the rules alone, without a judge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from statistics import fmean
from typing import Any

from codevision_lite.errors import UserError
from codevision_lite.files import read_jsonl
from codevision_lite.records import Sample, Trajectory
from codevision_lite.reward.dense import Breakdown, RewardConfig, score, score_group
from codevision_lite.reward.evidence import picture_size

WIDTH = 110  # columns; longer reasons are cut
ID_WIDTH = 44


@dataclass(frozen=True)
class Saved:
    """A row of the file. `stage` and `step` are "" and None where it does not name them."""

    stage: str
    step: int | None
    sample: Sample
    trajectory: Trajectory

    @property
    def group(self) -> tuple[str, int | None, str]:
        return self.stage, self.step, self.sample.id

    @property
    def label(self) -> str:
        where = ", ".join(([self.stage] if self.stage else []) + ([f"step {self.step}"] if self.step is not None else []))
        return f"{self.sample.id} ({where})" if where else self.sample.id


@dataclass(frozen=True)
class Explained:
    """A row with its breakdown under each preset. `n_group`: how many rollouts of its prompt it was compared with, itself included."""

    saved: Saved
    breakdowns: dict[str, Breakdown]
    n_group: int


def explain_file(path: Path, presets: Sequence[str], *, sample_id: str | None = None, limit: int | None = None) -> list[Explained]:
    """Score a file's trajectories under each preset; groups are whole even where `sample_id` and `limit` select from them.

    Raises UserError for a file or row that cannot be read, an unknown preset or id, and where nothing is left to explain.
    """
    configs = {name: RewardConfig.preset(name) for name in presets}
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: must be 1 or more")
    rows = read_jsonl(path, lambda row: _saved(row, path.parent), cut_tail=True)
    if not rows:
        raise UserError(f"{path}: no trajectories in it")
    chosen = [k for k, saved in enumerate(rows) if sample_id in (None, saved.sample.id)][:limit]
    if not chosen:
        ids = sorted({saved.sample.id for saved in rows})
        near = get_close_matches(sample_id, ids, n=1)
        raise UserError(f"{path}: no sample {sample_id!r}; " + (f"did you mean {near[0]!r}?" if near else f"the first is {ids[0]!r}"))
    groups: dict[tuple, list[int]] = defaultdict(list)
    for k, saved in enumerate(rows):
        groups[saved.group].append(k)
    wanted = {rows[k].group for k in chosen}
    found: dict[int, Explained] = {}
    for members in (groups[key] for key in wanted):
        scored = {name: _score([rows[k] for k in members], config) for name, config in configs.items()}
        for place, k in enumerate(members):
            found[k] = Explained(rows[k], {name: breakdowns[place] for name, breakdowns in scored.items()}, len(members))
    return [found[k] for k in chosen]


def explained_text(explained: Sequence[Explained]) -> str:
    """One preset: a table of terms for each trajectory, and their means. Several: their totals side by side."""
    presets = list(explained[0].breakdowns)
    lines = _comparison(explained, presets) if len(presets) > 1 else _explanations(explained, presets[0])
    return "\n".join("".join(c if c.isprintable() else "?" for c in line).rstrip() for line in lines)


def explained_json(explained: Sequence[Explained]) -> dict[str, Any]:
    """{"rows": [...], "summary": {preset: means}}; means leave unknown rewards out and count them."""
    rows = [
        {
            "id": e.saved.sample.id, "stage": e.saved.stage, "step": e.saved.step, "answer": e.saved.trajectory.answer,
            "n_group": e.n_group, "presets": {name: b.to_json() for name, b in e.breakdowns.items()},
        }
        for e in explained
    ]  # fmt: skip
    return {"rows": rows, "summary": {name: _means([e.breakdowns[name] for e in explained]) for name in explained[0].breakdowns}}


def _saved(row: dict[str, Any], folder: Path) -> Saved:
    fields = row["sample"]
    for name in ("answers", "required_ops"):
        if not isinstance(fields.get(name, []), list):
            raise ValueError(f"'sample.{name}' must be a list, got {fields[name]!r}")
    if not isinstance(fields.get("meta", {}), dict):
        raise ValueError(f"'sample.meta' must be an object, got {fields['meta']!r}")
    sample = Sample.from_json(fields)
    if sample.target_box and not (len(sample.target_box) == 4 and all(isinstance(v, int | float) for v in sample.target_box)):
        raise ValueError(f"'sample.target_box' must be four numbers (x1, y1, x2, y2), got {fields['target_box']!r}")
    trajectory = Trajectory.from_json(row["trajectory"], folder)
    if not isinstance(trajectory.answer, str | None):
        raise ValueError(f"'trajectory.answer' must be a text or null, got {trajectory.answer!r}")
    image = trajectory.images[0] if trajectory.images else str(folder / str(sample.image))
    if picture_size(image) is None:
        raise ValueError(f"no readable picture {image}: its size is needed to judge crops")
    return Saved(str(row.get("stage", "")), row.get("step"), replace(sample, image=image), trajectory)


def _score(rows: Sequence[Saved], config: RewardConfig) -> list[Breakdown]:
    if len(rows) == 1:
        return [score(rows[0].sample, rows[0].trajectory, config)]
    return score_group(rows[0].sample, [row.trajectory for row in rows], config)


def _explanations(explained: Sequence[Explained], preset: str) -> list[str]:
    lines: list[str] = []
    for e in explained:
        sample, trajectory, breakdown = e.saved.sample, e.saved.trajectory, e.breakdowns[preset]
        answer = repr(trajectory.answer) if trajectory.answer is not None else f"none ({trajectory.end_reason})"
        turns = f"{trajectory.n_tool_turns} tool turn{'s' * (trajectory.n_tool_turns != 1)}"
        group = f"; one of {e.n_group} rollouts" if e.n_group > 1 else ""
        facts = f"answer {answer}, wanted {' or '.join(map(repr, sample.answers))}; needs {', '.join(sample.required_ops) or 'no tool'}"
        lines += [f"{e.saved.label}: {facts}; {turns}{group}", f"  {'term':<16}{'value':>7}{'weight':>8}{'adds':>8}  why"]
        for name, term in breakdown.terms.items():
            adds = "-" if not term.weight else "?" if term.value is None else _signed(term.value * term.weight)
            lines.append(_cut(f"  {name:<16}{_number(term.value):>7}{term.weight:>8.2f}{adds:>8}  {term.reason}"))
        lines += [f"  {'total':<16}{_signed(breakdown.total):>23}", ""]
    return [*lines, *_summary(explained, preset)]


def _summary(explained: Sequence[Explained], preset: str) -> list[str]:
    """Means over all, or a pair of columns for each stage."""
    columns = {
        name: _means([e.breakdowns[preset] for e in explained if name in ("all", e.saved.stage)])
        for name in _stages(explained) or ["all"]
    }  # fmt: skip
    lines = [f"Means under {preset!r}: the term's value, and what it adds"]
    lines.append(f"  {'':<16}" + "".join(f"{name[:12] + ' n=' + str(means['n']):>18}" for name, means in columns.items()))
    for name in explained[0].breakdowns[preset].terms:
        cells = [means["terms"][name] for means in columns.values()]
        lines.append(f"  {name:<16}" + "".join(f"{_number(c['value']):>10}{_signed(c['adds']):>8}" for c in cells))
    lines.append(f"  {'total':<16}" + "".join(f"{_signed(means['total']):>18}" for means in columns.values()))
    if dropped := sum(means["n_unknown"] for means in columns.values()):
        lines.append(f"  {dropped} without a known reward are left out")
    return lines


def _comparison(explained: Sequence[Explained], presets: Sequence[str]) -> list[str]:
    widths = [max(10, len(name) + 2) for name in presets]
    lines = [f"{'trajectory':<{ID_WIDTH}}" + "".join(f"{name:>{w}}" for name, w in zip(presets, widths, strict=True))]

    def line(label: str, totals: Sequence[float | None]) -> str:
        cells = "".join(f"{_signed(total):>{w}}" for total, w in zip(totals, widths, strict=True))
        return f"{label[: ID_WIDTH - 1]:<{ID_WIDTH}}{cells}"

    lines += [line(e.saved.label, [e.breakdowns[name].total for name in presets]) for e in explained]
    lines.append("-" * (ID_WIDTH + sum(widths)))
    for stage in _stages(explained):
        rows = [e for e in explained if e.saved.stage == stage]
        lines.append(line(f"mean of {len(rows)}, {stage}", [_means([e.breakdowns[n] for e in rows])["total"] for n in presets]))
    totals = [_means([e.breakdowns[n] for e in explained])["total"] for n in presets]
    return [*lines, line(f"mean of {len(explained)}", totals)]


def _means(breakdowns: Sequence[Breakdown]) -> dict[str, Any]:
    totals = [b.total for b in breakdowns if b.total is not None]
    terms = {}
    for name in breakdowns[0].terms:
        known = [t for b in breakdowns if (t := b.terms[name]).value is not None]
        terms[name] = {"value": _mean([t.value for t in known]), "adds": _mean([t.value * t.weight for t in known])}
    return {"n": len(breakdowns), "n_unknown": len(breakdowns) - len(totals), "total": _mean(totals), "terms": terms}


def _stages(explained: Sequence[Explained]) -> list[str]:
    """The stages, where there are several."""
    stages = list(dict.fromkeys(e.saved.stage for e in explained))
    return stages if len(stages) > 1 else []


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f}"


def _signed(value: float | None) -> str:
    return "?" if value is None else f"{value + 0.0:+.2f}"  # + 0.0: a minus before nothing would mislead


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..."
