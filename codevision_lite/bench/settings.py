"""What a run of a benchmark was asked for, and the samples that this means."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from codevision_lite.bench.benchmark import BadRow, Benchmark, read_switches
from codevision_lite.bench.variants import UNDAMAGED
from codevision_lite.errors import UserError
from codevision_lite.records import Sample


@dataclass(frozen=True)
class BenchConfig:
    """What to run; kept in the run folder, which is then refused to any other run."""

    benchmark: str
    file: str | None = None  # the user's copy of the benchmark; None for built-in sets
    n: int | None = None  # samples of the subset; None: all
    seed: int = 0  # of the subset, and of built-in sets
    damages: tuple[str, ...] = (UNDAMAGED,)  # as damage.py spells them
    switches: dict[str, str] = field(default_factory=dict)  # of the benchmark's rule, all of them
    tools: Literal["on", "off", "blind"] = "on"  # off: direct answers; blind: returned pictures are grey
    model: str = "sample_data/tiny_base"  # local folder, hub name, or the name of a server's model
    adapter: str | None = None
    quantize: Literal["nf4", "none"] = "nf4"
    backend: Literal["auto", "unsloth", "transformers"] = "auto"
    min_pixels: int | None = None
    max_pixels: int | None = None
    batch: int = 16  # items through a local model at once
    server: str | None = None  # URL of an OpenAI-compatible server, up to /v1
    concurrency: int = 8  # episodes at a time, with a server
    timeout_s: float = 300.0  # of one request to a server
    max_turns: int = 6
    max_reply_tokens: int = 512
    max_tokens: int = 8192  # whole trajectory, where the model counts tokens
    max_images: int = 8
    final_answer: bool = False  # the model is told to answer when turns or tokens run out
    name: str = ""  # of the model in tables; empty: from its path
    sft_rows: str | None = None  # the SFT data, whose operations are not emergent

    def __post_init__(self) -> None:
        for name in ("batch", "concurrency", "max_turns", "max_reply_tokens", "max_tokens", "max_images"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.n is not None and self.n < 1:
            raise ValueError(f"n must be >= 1, got {self.n}")

    @property
    def label(self) -> str:
        """The model's name in tables: given, or the last part of its path, with the stage of its adapter."""
        adapter = f" + {'/'.join(Path(self.adapter).parts[-3:-1])}" if self.adapter else ""
        return self.name or f"{Path(self.model).name}{adapter}"


    @property
    def default_folder(self) -> Path:
        """runs/bench/BENCHMARK-MODEL, with the tools' mode where it is not "on"."""
        words = (self.benchmark, self.label, *(() if self.tools == "on" else (f"tools {self.tools}",)))
        return Path("runs", "bench", "-".join(re.sub(r"[^\w.]+", "-", word).strip("-") for word in words))

    def resolved(self, benchmark: Benchmark) -> BenchConfig:
        """With all switches of the benchmark; a built-in set draws `n` items from `seed`. Raises UserError for a wrong switch."""
        drawn = {"n": self.n, "seed": self.seed} if "n" in benchmark.switches else {}
        given = {name: str(value) for name, value in drawn.items() if value is not None} | self.switches
        return replace(self, switches=read_switches(benchmark, given))


NOT_THE_RUN = ("server", "concurrency", "timeout_s", "name", "sft_rows")  # fields that may differ when a run goes on


@dataclass(frozen=True)
class Loaded:
    """The samples of a run, and the rows of the file that can't be used."""

    samples: list[Sample]
    bad_rows: list[BadRow]
    n_in_file: int


def load_samples(benchmark: Benchmark, config: BenchConfig) -> Loaded:
    """The subset of a run. Raises UserError where nothing can be read."""
    if benchmark.needs_file and config.file is None:
        raise UserError(f"{benchmark.name} reads your copy of its file: codevision-lite bench {benchmark.name} FILE (docs/BENCHMARKS.md)")
    samples: list[Sample] = []
    bad: list[BadRow] = []
    for row in benchmark.load(Path(config.file) if config.file else None, config.switches):
        (bad if isinstance(row, BadRow) else samples).append(row)
    if not samples:
        first = f" The first: {bad[0]}" if bad else ""
        raise UserError(f"{config.file or benchmark.name}: none of its {len(bad)} rows can be used.{first}")
    chosen = samples if config.n is None else benchmark.subset(samples, config.n, config.seed)
    return Loaded(list(chosen), bad, len(samples) + len(bad))
