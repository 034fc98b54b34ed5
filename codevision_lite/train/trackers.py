"""Where a run's numbers can also go: TensorBoard in the run folder, Weights & Biases or Trackio.

A tracker is given rows of metrics.jsonl, first all that are there already when a run is taken up again.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from codevision_lite.errors import MissingPackage

PROJECT = "codevision-lite"
_NOT_NUMBERS = ("stage", "step")


class Tracker(Protocol):
    """What StepLog wants of one."""

    def start(self, rows: Sequence[dict[str, Any]]) -> None:
        """`rows`: of the steps that are done."""

    def log(self, row: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


def open_tracker(name: str, run_folder: Path, stage: str) -> Tracker:
    """The tracker `name`, a value of the recipe's `log`. Raises MissingPackage where it is not installed."""
    if importlib.util.find_spec(name) is None:
        raise MissingPackage(f"log: {name} is not installed. Install it with: pip install {name}; or leave it out of the recipe's `log`")
    return TensorBoard(run_folder / "tensorboard" / stage) if name == "tensorboard" else Online(name, run_folder, stage)


class TensorBoard:
    """Event files in `folder`: one curve for each number, whole after a resume too, since they are written anew."""

    def __init__(self, folder: Path):
        self.folder = folder

    def start(self, rows: Sequence[dict[str, Any]]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(self.folder, ignore_errors=True)
        self._writer = SummaryWriter(str(self.folder))
        for row in rows:
            self._add(row)
        self._writer.flush()

    def log(self, row: dict[str, Any]) -> None:
        self._add(row)
        self._writer.flush()  # a run that stops the hard way closes nothing

    def _add(self, row: dict[str, Any]) -> None:
        for name, value in row.items():
            if name not in _NOT_NUMBERS and value is not None:
                self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        self._writer.close()


class Online:
    """wandb or trackio, which share this interface; the run's id comes from its folder, so that a resumed run goes on in it."""

    def __init__(self, name: str, run_folder: Path, stage: str):
        self.name, self.run_folder, self.stage = name, run_folder, stage

    def start(self, rows: Sequence[dict[str, Any]]) -> None:
        self._module = importlib.import_module(self.name)
        title = f"{self.run_folder.name}-{self.stage}"
        where: dict[str, Any] = {"project": PROJECT, "name": title, "resume": "allow"}
        if self.name == "wandb":
            own = hashlib.sha256(f"{self.run_folder.absolute()}/{self.stage}".encode()).hexdigest()[:16]
            where |= {"id": own, "dir": str(self.run_folder)}
        self._module.init(**where)

    def log(self, row: dict[str, Any]) -> None:
        numbers = {name: value for name, value in row.items() if name not in _NOT_NUMBERS and value is not None}
        self._module.log(numbers, step=row["step"])

    def close(self) -> None:
        self._module.finish()
