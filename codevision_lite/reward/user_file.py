"""A reward of the user's own: a Python file that `rl.reward_file` names, trained on in place of a preset.

    def score_group(sample, trajectories):      # records.Sample, a sequence of records.Trajectory: all rollouts of one prompt
        return [1.0 if t.answer in sample.answers else 0.0 for t in trajectories]        # None: not known, left out of the update

It runs with the user's rights, as any script of theirs; the sandbox is for what the model writes.
"""

from __future__ import annotations

import importlib.util
import math
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from codevision_lite.errors import UserError
from codevision_lite.records import Sample, Trajectory

FUNCTION = "score_group"
GroupScorer = Callable[[Sample, Sequence[Trajectory]], list[float | None]]


def load_scorer(path: str | Path) -> GroupScorer:
    """The file's `score_group`, whose results and errors are checked at each call. Raises UserError, then and now."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"rl.reward_file: no such file: {path}")
    spec = importlib.util.spec_from_file_location(f"reward_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"rl.reward_file: {path} is no Python file. Its name must end with .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        raise UserError(f"rl.reward_file: {_line_of(path, e)}: {type(e).__name__}: {e}") from e
    score_group = getattr(module, FUNCTION, None)
    if not callable(score_group):
        raise UserError(f"rl.reward_file: {path} has no function {FUNCTION}(sample, trajectories)")

    def checked(sample: Sample, trajectories: Sequence[Trajectory]) -> list[float | None]:
        try:
            totals = list(score_group(sample, trajectories))
        except Exception as e:
            raise UserError(f"rl.reward_file: {_line_of(path, e)}: sample {sample.id}: {type(e).__name__}: {e}") from e
        if len(totals) != len(trajectories):
            raise UserError(f"rl.reward_file: {path}: {FUNCTION} gave {len(totals)} totals for {len(trajectories)} trajectories")
        bad = [t for t in totals if t is not None and not (isinstance(t, int | float) and math.isfinite(t))]
        if bad:
            raise UserError(f"rl.reward_file: {path}: sample {sample.id}: a total is a finite number or None, got {bad[0]!r}")
        return [None if t is None else float(t) for t in totals]

    return checked


def _line_of(path: Path, error: BaseException) -> str:
    """The file, and the line of it that was running."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{path} line {error.lineno}"
    own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    return f"{path} line {own[-1]}" if own else str(path)
