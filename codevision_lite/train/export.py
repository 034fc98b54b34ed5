"""A trained stage as files that need nothing of ours: the adapter merged into its base, or the adapter alone.

Both folders hold the processor, the chat template, protocol.json (system prompt and tool) and a model card. A merge is
compared with the adapter that it came from, on trajectories of the run, before its folder gets its name.
    codevision-lite merge recipes/demo.yaml
    codevision-lite export-adapter recipes/demo.yaml --out my-adapter
"""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from codevision_lite.config import recipe_hash
from codevision_lite.datasets.rows import TrainingRow, load_training_rows
from codevision_lite.errors import UserError
from codevision_lite.files import write_atomic
from codevision_lite.models.load import load_adapter, load_base, load_processor
from codevision_lite.protocol import SYSTEM_PROMPT, TOOL_SCHEMA
from codevision_lite.recipe import Recipe
from codevision_lite.train.card import model_card
from codevision_lite.train.checkpoints import explain_refused_write, flush, require_room

Weights = Literal["unquantised", "nf4"]

SAMPLES = 8  # trajectories that a merge is compared on
# What rounding merged weights to 16 bits may cost: the merge is refused above either. The mean is relative to the logits' spread
# over the vocabulary (their standard deviation); on the demo's adapters it is below a tenth of this.
MEAN_TOLERANCE = 0.05
AGREEMENT_TOLERANCE = 0.97


@dataclass(frozen=True)
class LogitDifference:
    """Two models on the same tokens: over `n` positions whose next token is a trained one, and the whole vocabulary."""

    n: int
    mean: float  # of |difference|
    max: float
    relative: float  # mean over the standard deviation of the first model's logits at a position
    agreement: float  # share of the positions where both prefer the same token

    def __str__(self) -> str:
        return (
            f"mean |dlogit| {self.mean:.2g} ({self.relative:.2%} of their spread), max {self.max:.2g}, same first choice at "
            f"{self.agreement:.1%} of {self.n} tokens"
        )


@torch.no_grad()
def reply_logits(model: Any, processor: Any, rows: Sequence[TrainingRow]) -> torch.Tensor:
    """(positions, V) float32 on the CPU: what the model expects at every trained token of the rows, pictures included."""
    from codevision_lite.train.sft import IGNORED, TrajectoryCollator

    collate = TrajectoryCollator(rows, processor)
    found = []
    for i in range(len(rows)):
        batch = {name: value.to(model.device) for name, value in collate([{"index": i}]).items()}
        labels = batch.pop("labels")[0]
        at = torch.nonzero(labels != IGNORED)[:, 0] - 1
        found.append(model(**batch).logits[0, at].float().cpu())
    return torch.cat(found)


def logit_difference(a: torch.Tensor, b: torch.Tensor) -> LogitDifference:
    """Of two (positions, V) tensors."""
    distance = (a - b).abs()
    same = (a.argmax(-1) == b.argmax(-1)).float().mean()
    mean = distance.mean()
    return LogitDifference(len(a), mean.item(), distance.max().item(), (mean / a.std(-1).mean()).item(), same.item())


def merge(recipe: Recipe, stage: str, out: Path, weights: Weights = "unquantised") -> tuple[LogitDifference, LogitDifference | None]:
    """Write base + adapter in bfloat16 to `out`. `weights`: the base's own, or its NF4 ones, dequantised.

    Returns the merged model's difference from the adapter on those weights, which must be rounding, and, for an adapter that
    was trained on NF4, from the adapter on NF4: merged into unquantised weights it meets a base that it was not trained on.
    Raises UserError where the first is more than rounding, where `out` is taken, and where the stage is not trained.
    """
    adapter, rows, on_nf4 = _adapter(recipe, stage), _rows(recipe), recipe.model.quantize == "nf4"
    _need_new(out)
    if weights == "nf4" and not on_nf4:
        raise UserError("merge --from nf4: this run's model.quantize is none, so its adapter was trained on unquantised weights")
    trained = None
    if on_nf4:
        model, processor = _load(recipe, adapter, "nf4")
        trained = reply_logits(model, processor, rows)
        model = None
        _release()
    model, processor = _load(recipe, adapter, weights)
    wanted, dtype = reply_logits(model, processor, rows), model.dtype
    model = model.merge_and_unload(safe_merge=True).to(torch.bfloat16)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    require_room("the merged model", out.absolute().parent, size)
    with _becoming(out) as folder, explain_refused_write("the merged model", folder.parent, size):
        model.save_pretrained(folder)
        save_processor(processor, folder)
        model = None
        _release()
        got = reply_logits(_load_merged(folder, dtype), processor, rows)
        exact = logit_difference(wanted, got)
        if not (exact.relative <= MEAN_TOLERANCE and exact.agreement >= AGREEMENT_TOLERANCE):
            raise UserError(
                f"{out}: the merged model is not the adapter's: {exact}; at most {MEAN_TOLERANCE:.0%} and at least "
                f"{AGREEMENT_TOLERANCE:.0%} are rounding. Serve the adapter instead: codevision-lite export-adapter"
            )
        quantised = None if trained is None else logit_difference(trained, got)
        names = (f"merged vs adapter on {weights} weights", "merged vs adapter on NF4 weights, as it was trained")
        _write_card(recipe, stage, folder, dict(zip(names, (exact, quantised), strict=True)))
    return exact, quantised


def _load(recipe: Recipe, adapter: Path, weights: Weights) -> tuple[Any, Any]:
    """(the adapter on the base's weights, of which NF4's are dequantised; processor)."""
    config = recipe.model
    model, processor = load_base(
        config.name, quantize="none" if weights == "unquantised" else "nf4", min_pixels=config.min_pixels, max_pixels=config.max_pixels,
        threads=config.threads, backend="transformers",
    )  # fmt: skip
    if weights == "nf4":
        model = model.dequantize()  # the same numbers in 16 or 32 bits, into which an adapter can be merged
    return load_adapter(model, str(adapter), trainable=False).eval(), processor


def export_adapter(recipe: Recipe, stage: str, out: Path) -> None:
    """Write the adapter to `out` as PEFT loads it. Raises UserError where `out` is taken or the stage is not trained."""
    adapter = _adapter(recipe, stage)
    _need_new(out)
    processor = load_processor(recipe.model.name, recipe.model.min_pixels, recipe.model.max_pixels)
    size = sum(p.stat().st_size for p in adapter.iterdir())
    require_room("the adapter", out.absolute().parent, size)
    with _becoming(out) as folder, explain_refused_write("the adapter", folder.parent, size):
        folder.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(adapter / name, folder / name)
        save_processor(processor, folder)
        _write_card(recipe, stage, folder, {})


def save_processor(processor: Any, folder: Path) -> None:
    """Tokenizer, picture processor and chat template under the names that other libraries look for, and protocol.json."""
    processor.tokenizer.save_pretrained(folder)
    if hasattr(processor, "video_processor"):  # transformers' own whole processor
        processor.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)
    write_atomic(folder / "protocol.json", json.dumps({"system": SYSTEM_PROMPT, "tools": [TOOL_SCHEMA]}, indent=1))


def _load_merged(folder: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForImageTextToText

    place = "cuda" if torch.cuda.is_available() else "cpu"
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, device_map={"": place}).eval()


def _write_card(recipe: Recipe, stage: str, folder: Path, checks: dict[str, LogitDifference | None]) -> None:
    run = Path(recipe.run_folder)
    results = run / "results.json"
    context = json.loads(results.read_text()) if results.exists() else {"stages": []}
    files = [p for p in sorted((run / "data").glob("*.jsonl")) if p.stat().st_size]
    data = {p.name: {"rows": len(p.read_bytes().splitlines()), "sha256": sha256(p)} for p in files}
    weights = {p.name: sha256(p) for p in sorted(folder.glob("*.safetensors"))}
    base = Path(recipe.model.name)
    base_weights = {p.name: sha256(p) for p in sorted(base.glob("*.safetensors"))} if base.is_dir() else {}
    measured = {name: asdict(check) for name, check in checks.items() if check}
    facts = {
        "base": recipe.model.name, "base_sha256": base_weights, "stage": stage, "recipe_hash": recipe_hash(recipe),
        "data": data, "sha256": weights, "checks": measured,
    }  # fmt: skip
    write_atomic(folder / "provenance.json", json.dumps(facts, indent=1))
    write_atomic(folder / "README.md", model_card(recipe, facts, context))


def sha256(path: Path) -> str:
    """Of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _adapter(recipe: Recipe, stage: str) -> Path:
    adapter = Path(recipe.run_folder) / stage / "adapter"
    if not (adapter / "adapter_config.json").is_file():
        raise UserError(f"{adapter} is not there yet. Make it, with the same recipe, by: make {'sft' if stage == 'sft' else 'rl'}")
    return adapter


def _rows(recipe: Recipe) -> list[TrainingRow]:
    path = Path(recipe.run_folder) / "data" / "sft.jsonl"
    if not path.exists():
        raise UserError(f"{path} is not there: a merge is compared on its trajectories. Make it with: make synth")
    return load_training_rows(path)[:SAMPLES]


def _need_new(out: Path) -> None:
    if out.exists():
        raise UserError(f"{out} is there already. Choose another --out, or remove it: rm -r {out}")


@contextmanager
def _becoming(out: Path) -> Iterator[Path]:
    """A folder to write to, which gets the name `out` when all is well and is removed otherwise."""
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        yield unfinished
        for path in unfinished.iterdir():
            path.chmod(0o644)  # safetensors writes for its owner alone
        flush(unfinished)
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
