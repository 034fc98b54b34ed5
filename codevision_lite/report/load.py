"""Read a run folder. What a run has not reached yet is simply not there; what is broken is a UserError with file and row."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from codevision_lite.config import CONFIG_NAME
from codevision_lite.errors import UserError
from codevision_lite.files import read_jsonl
from codevision_lite.records import Sample, Trajectory

STAGES = {"base": "Base", "sft": "SFT", "grpo": "GRPO"}  # always shown, in this order; others follow
DAMAGED_MEAN = "damaged mean"
CONDITIONS = {  # what was done to the picture -> how the report calls it
    "none": "upright",
    "rotate_90": "rotated 90°",
    "rotate_180": "rotated 180°",
    "rotate_270": "rotated 270°",
    "flip_horizontal": "flipped left-right",
    "flip_vertical": "flipped top-bottom",
    "crop": "small target",
    "orientation+crop": "turned, small target",
}


@dataclass(frozen=True)
class ConditionRow:
    """One model on one condition. `accuracy`, `low`, `high` (95 % interval) and `error_rate` are in [0, 1]."""

    condition: str
    n: int
    correct: int
    accuracy: float
    low: float
    high: float
    tool_turns: float  # mean tool turns for an item
    error_rate: float = 0.0  # share of tool turns that failed


@dataclass(frozen=True)
class StageResult:
    """One evaluated model. `damaged_mean`: accuracy over `damaged_conditions` (None: all but upright), with its 95 % interval."""

    name: str
    rows: tuple[ConditionRow, ...]
    damaged_mean: float | None = None
    damaged_low: float | None = None
    damaged_high: float | None = None
    damaged_conditions: tuple[str, ...] | None = None
    seconds: float | None = None

    def row(self, condition: str) -> ConditionRow | None:
        return next((r for r in self.rows if r.condition == condition), None)

    @property
    def damaged_rows(self) -> tuple[ConditionRow, ...]:
        if self.damaged_conditions is None:
            return tuple(r for r in self.rows if r.condition != "upright")
        return tuple(r for r in self.rows if r.condition in self.damaged_conditions)

    @property
    def damaged_n(self) -> int:
        return sum(r.n for r in self.damaged_rows)

    @property
    def damaged_tool_turns(self) -> float | None:
        """Mean tool turns for an item of the damaged conditions."""
        return sum(r.n * r.tool_turns for r in self.damaged_rows) / self.damaged_n if self.damaged_n else None


@dataclass(frozen=True)
class Results:
    """results.json."""

    stages: tuple[StageResult, ...] = ()
    context: dict[str, Any] = field(default_factory=dict)
    wall_s: float | None = None
    peak_rss_gib: float | None = None

    def stage(self, name: str) -> StageResult | None:
        return next((s for s in self.stages if s.name == name), None)

    @property
    def stage_names(self) -> list[str]:
        return list(dict.fromkeys([*STAGES, *(s.name for s in self.stages)]))

    @property
    def conditions(self) -> list[str]:
        return list(dict.fromkeys(r.condition for s in self.stages for r in s.rows))


@dataclass(frozen=True)
class Attempt:
    """What one stage's model did with one sample, and how the reward judged it."""

    stage: str
    condition: str
    correct: bool
    sample: Sample  # its picture is a path
    trajectory: Trajectory  # its pictures are paths
    reward: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A run folder, read."""

    folder: Path
    config: str
    results: Results
    metrics: tuple[dict[str, Any], ...]
    attempts: tuple[Attempt, ...]


def load_run(folder: str | Path) -> Run:
    """Raises UserError if `folder` is no run folder or a file of it is broken."""
    folder = Path(folder)
    config = folder / CONFIG_NAME
    if not config.is_file():
        raise UserError(f"{folder}: no run here (no {CONFIG_NAME}). Start one with: make demo")
    results, metrics, trajectories = (folder / n for n in ("results.json", "metrics.jsonl", "trajectories.jsonl"))
    return Run(
        folder=folder,
        config=config.read_text(encoding="utf-8"),
        results=_read_results(results) if results.exists() else Results(),
        metrics=tuple(read_jsonl(metrics, cut_tail=True)) if metrics.exists() else (),
        attempts=tuple(_read_attempts(trajectories)) if trajectories.exists() else (),
    )


def parse_results(row: dict[str, Any]) -> Results:
    """results.json's object; unknown keys are left out. Raises KeyError, TypeError or ValueError if it isn't one."""
    stages = tuple(
        StageResult(**{**_known(StageResult, s), "rows": tuple(ConditionRow(**_known(ConditionRow, r)) for r in s["rows"])})
        for s in row["stages"]
    )
    return Results(**{**_known(Results, row), "stages": stages})


def stage_label(name: str) -> str:
    return STAGES.get(name, name)


def condition_label(name: str) -> str:
    return CONDITIONS.get(name, name.replace("_", " "))


def _read_results(path: Path) -> Results:
    try:
        return parse_results(json.loads(path.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise UserError(f"{path}: not a table of results ({type(e).__name__}: {e}). Remove it and evaluate again") from e


def _read_attempts(path: Path) -> list[Attempt]:
    def parse(row: dict[str, Any]) -> Attempt:
        sample = Sample.from_json({**row["sample"], "image": str(path.parent / row["sample"]["image"])})
        trajectory = Trajectory.from_json(row["trajectory"], path.parent)
        return Attempt(row["stage"], row["condition"], bool(row["correct"]), sample, trajectory, row.get("reward") or {})

    return read_jsonl(path, parse, cut_tail=True)


def _known(cls: type, row: dict[str, Any]) -> dict[str, Any]:
    return {f.name: row[f.name] for f in fields(cls) if f.name in row}
