"""What recipes/miniature.yaml may say: seeds, arms, and claims whose tests are fixed before anything runs.

A claim is one or more parts, and all of them must hold. A part compares one number with a limit:

    effect = metric(arm, over) - times * metric(against, against_over)          without `against`: metric(arm, on)
    with `beyond`: the effect over `over` less the same effect over `beyond`

Names under `over` are conditions or groups of them (GROUPS). docs/MINIATURE.md explains each key with an example.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from codevision_lite.config import plain
from codevision_lite.convert import Problem, build, set_override
from codevision_lite.geometry import ORIENTATIONS
from codevision_lite.miniature.measures import METRICS
from codevision_lite.recipe import Recipe
from codevision_lite.synth.samples import CONDITIONS

START = "start"  # folder of what all arms share: data, base, SFT
BEFORE = ("base", "sft")  # arms that are there without RL; their rows lie in START
GROUPS = {"orientations": ORIENTATIONS, "trained_on": CONDITIONS, "all": None}  # all: every condition that is evaluated


@dataclass(frozen=True)
class Part:
    """One comparison, in the metric's own unit: shares in [0, 1], turns as a number."""

    metric: str
    arm: str
    over: tuple[str, ...] = ("orientations",)
    against: str | None = None
    against_over: tuple[str, ...] | None = None  # None: as `over`
    against_metric: str | None = None  # None: the same metric
    times: float = 1.0  # what the other side is multiplied by
    beyond: tuple[str, ...] | None = None
    at_least: float | None = None
    at_most: float | None = None
    margin: float = 0.0  # an effect that is surely smaller than this, counted from the limit, is none

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("one of at_least and at_most is needed, not both")
        if self.margin < 0:
            raise ValueError(f"margin must be >= 0, got {self.margin}")
        for name in (self.metric, self.against_metric):
            if name is not None and name not in METRICS:
                raise ValueError(f"unknown metric {name!r}; {_hint(name, METRICS)}")
        if self.against is None and (self.against_over or self.against_metric or self.beyond or self.times != 1.0):
            raise ValueError("against_over, against_metric, beyond and times need `against`")


@dataclass(frozen=True)
class Claim:
    """What the paper (or this project) says, in one sentence, and the test of it. All parts must hold."""

    says: str
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("parts: one comparison or more is needed")


@dataclass(frozen=True)
class Target:
    """A number that the mean over the seeds must reach; no interval decides it."""

    says: str
    part: Part


@dataclass(frozen=True)
class Miniature:
    """The whole experiment. `arms`: name -> changes to `recipe`, written as on the command line; only of `rl`, for the rest is shared."""

    run_folder: str = "runs/miniature"
    seeds: int = 3
    jobs: int = 2  # runs at a time; one core and, with the tiny model, about 4 GiB each
    recipe: Recipe = field(default_factory=Recipe)
    arms: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"dense": ("rl.reward=dense",)})
    claims: dict[str, Claim] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()

    def __post_init__(self) -> None:
        for name in ("seeds", "jobs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.recipe.data.world != "signs":
            raise ValueError("recipe.data.world must be signs: the tiny model sees nothing else")
        for name, changes in self.arms.items():
            if name in (*BEFORE, START) or not name.replace("_", "").replace("-", "").isalnum():
                raise ValueError(f"arms: {name!r} can't be an arm's name: use letters, digits and _, and not {', '.join((*BEFORE, START))}")
            foreign = [c for c in changes if not c.startswith("rl.")]
            if foreign:
                raise ValueError(f"arms.{name}: {foreign[0]!r}: an arm may change keys of rl alone, since data and SFT are shared")
            self.arm_recipe(name, 0)
        for place, part in self._places():
            for arm in (part.arm, part.against):
                if arm is not None and arm not in self.all_arms:
                    raise ValueError(f"{place}: unknown arm {arm!r}; {_hint(arm, self.all_arms)}")
            for name in (*part.over, *(part.against_over or ()), *(part.beyond or ())):
                if name not in (*GROUPS, *self.conditions):
                    raise ValueError(f"{place}: unknown condition {name!r}; {_hint(name, (*GROUPS, *self.conditions))}")

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions that are evaluated, in the order of the tables."""
        return self.recipe.eval.conditions or CONDITIONS

    @property
    def all_arms(self) -> tuple[str, ...]:
        return (*BEFORE, *self.arms)

    @property
    def seed_list(self) -> list[int]:
        return [self.recipe.seed + i for i in range(self.seeds)]

    def folder(self, arm: str, seed: int) -> Path:
        """The run folder of an arm; base and SFT are in the one that all share."""
        return Path(self.run_folder) / f"seed{seed}" / (START if arm in BEFORE else arm)

    def start_recipe(self, seed: int) -> Recipe:
        return replace(self.recipe, seed=seed, run_folder=str(self.folder("base", seed)))

    def arm_recipe(self, arm: str, seed: int) -> Recipe:
        """The recipe with the arm's changes. Raises ValueError naming the arm where one does not fit."""
        tree = plain(replace(self.recipe, seed=seed, run_folder=str(self.folder(arm, seed))))
        try:
            for change in self.arms[arm]:
                set_override(tree, change, Recipe)
            return build(Recipe, tree)
        except Problem as e:
            raise ValueError(f"arms.{arm}: {e.override or e.key}: {e}") from e

    def conditions_of(self, names: Sequence[str]) -> tuple[str, ...]:
        """The evaluated conditions behind names and groups, each once."""
        chosen = [c for name in names for c in (self.conditions if name == "all" else GROUPS.get(name) or (name,))]
        return tuple(c for c in dict.fromkeys(chosen) if c in self.conditions)

    def _places(self) -> Iterator[tuple[str, Part]]:
        for name, claim in self.claims.items():
            for number, part in enumerate(claim.parts, 1):
                yield f"claims.{name} part {number}", part
        for number, target in enumerate(self.targets, 1):
            yield f"targets {number}", target.part


def _hint(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name, list(names), n=1)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
