"""What every trainer of ours does when something goes wrong: not a number, out of memory, out of disk.

`Guarded` is a mixin over transformers' Trainer (TRL's SFTTrainer and GRPOTrainer). A loss or a gradient that is not finite
stops the run before the optimizer uses it, with the batch on disk; a checkpoint is whole or not there; memory that runs out
ends with the numbers and the key of the recipe to turn. Every message is one line, and the same command goes on afterwards.
"""

from __future__ import annotations

import io
import math
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import torch

from codevision_lite.errors import UserError
from codevision_lite.files import write_atomic
from codevision_lite.recipe import Recipe
from codevision_lite.train.checkpoints import (
    UNFINISHED,
    checkpoint_bytes,
    checkpoint_step,
    explain_refused_write,
    flush,
    last_checkpoint,
    require_room,
    seal,
)

ROW = "guard_row"  # (B,) int64 in a batch: which of `sample_ids` each of its rows is
RECIPE_KEY = {"sft": "sft", "grpo": "rl"}  # stage -> its section of the recipe
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|Cannot allocate memory|not enough memory|ALLOC_FAILED", re.I)


class Guarded:
    """Mixin; `guard` must be called before `train`."""

    stage: str
    recipe: Recipe
    run_folder: Path
    sample_ids: Sequence[str]
    where = "start"  # what the trainer is doing; after an exception, where it happened
    _checkpoint_root: Path | None = None

    def __init__(self, *args: Any, **kwargs: Any):
        one_gpu(kwargs["args"])
        super().__init__(*args, **kwargs)

    def guard(self, stage: str, recipe: Recipe, folder: Path, sample_ids: Sequence[str] = ()) -> None:
        """`folder`: of the stage. `sample_ids`: of the data set's rows; GRPO's are those of its rollouts."""
        self.stage, self.recipe, self.run_folder, self.sample_ids = stage, recipe, folder, sample_ids
        self._micro_batches: list[tuple[list[str], dict[str, Any]]] = []

    def create_model_card(self, **_: Any) -> None:
        """TRL writes one beside the checkpoints at every save; `codevision-lite export` writes ours."""

    # ---------------------------------------------------------------- not finite

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self._doing("update"):
            return super().training_step(*args, **kwargs)

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        rows = inputs[ROW].tolist()
        inputs = {name: value for name, value in inputs.items() if name != ROW}
        kept = {n: v.cpu() if n == "pixel_values" else v for n, v in inputs.items()}  # a step's pictures would fill a GPU
        self._micro_batches.append(([self.sample_ids[row] for row in rows], kept))
        out = super().compute_loss(model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch)
        loss = float((out[0] if return_outputs else out).detach())
        if not math.isfinite(loss):
            self._stop("the loss", loss, self._micro_batches[-1:])
        return out

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Called once an optimizer step, between the backward passes and the step itself."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if not math.isfinite(float(norm)):
            self._stop("the gradient's norm", float(norm), self._micro_batches)
        self._micro_batches.clear()
        return norm

    def _stop(self, what: str, value: float, micro_batches: Sequence[tuple[list[str], dict[str, Any]]]) -> NoReturn:
        """Write the micro-batches (what the model was given, labels or advantages included) and end the run."""
        step, ids = self.state.global_step + 1, [i for batch, _ in micro_batches for i in batch]
        rank = f"_rank{self.args.process_index}" if self.args.process_index else ""
        path = self.run_folder / f"not_finite_step{step}{rank}.pt"
        learning_rate = float(self.lr_scheduler.get_last_lr()[0])
        record = {
            "stage": self.stage, "step": step, "what": what, "value": value, "sample_ids": ids, "learning_rate": learning_rate,
            "micro_batches": [{n: v.cpu() if isinstance(v, torch.Tensor) else v for n, v in inputs.items()} for _, inputs in micro_batches],
        }  # fmt: skip
        buffer = io.BytesIO()
        torch.save(record, buffer)
        try:
            saved = f"its batch is in {write_atomic(path, buffer.getvalue())}"
        except UserError as e:
            saved = f"its batch could not be saved ({e})"
        names = ", ".join(dict.fromkeys(ids[:4])) + (f" and {len(ids) - 4} more" if len(ids) > 4 else "")
        key = RECIPE_KEY[self.stage]
        precision = ", or model.quantize=none for more precision" if self.recipe.model.quantize == "nf4" else ""
        raise UserError(
            f"{self.stage} step {step}: {what} is {value} (samples {names}); the weights are as before this step, {saved}. "
            f"Try {key}.learning_rate={learning_rate / 4:.2g} (now {learning_rate:.2g}){precision} in another run_folder, or take the "
            "samples out"
        )

    # ---------------------------------------------------------------- GRPO

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        with self._doing("rollout"):
            out = super()._generate_and_score_completions(inputs)
        self.sample_ids = [environment.sample.id for environment in self.environments]
        return {**out, ROW: torch.arange(len(self.sample_ids))}  # is shuffled and split with the rest

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
        with self._doing("reward"):
            return super()._calculate_rewards(*args, **kwargs)

    # ---------------------------------------------------------------- checkpoints

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._checkpoint_root or super()._get_output_dir(trial=trial))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        root, needed = Path(self.args.output_dir), checkpoint_bytes(self.model)
        what = f"the checkpoint of step {self.state.global_step}"
        if self.args.should_save:
            require_room(what, root, needed)
        self.accelerator.wait_for_everyone()
        self._checkpoint_root = root / UNFINISHED
        try:
            with self._doing("checkpoint"), explain_refused_write(what, root, needed):
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()  # every process has written its random state
                if self.args.should_save:
                    seal(self._checkpoint_root / f"checkpoint-{self.state.global_step}", root, keep=self.args.save_total_limit)
        finally:
            if self.args.should_save:
                shutil.rmtree(self._checkpoint_root, ignore_errors=True)
            self._checkpoint_root = None

    @contextmanager
    def _doing(self, where: str) -> Iterator[None]:
        before, self.where = self.where, where
        yield
        self.where = before  # an exception leaves it, for the message


def one_gpu(args: Any) -> None:
    """A process trains on one GPU. Where it sees several and was not started by a launcher, transformers would multiply the batch by
    their number and put a copy of the model on each (DataParallel). `args`: TrainingArguments."""
    args._n_gpu = min(1, args.n_gpu)


def world_size() -> int:
    """Processes of this run: 1, or what `accelerate launch` and torchrun say."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def accumulation(section: str, batch: int, micro_batch: int) -> int:
    """Micro-batches of one process in an optimizer step, so that all processes together see `batch` rows.

    Raises UserError where they can't."""
    at_once = micro_batch * world_size()
    if batch % at_once:
        raise UserError(
            f"{world_size()} processes of {section}.micro_batch={micro_batch} make {at_once} rows, which a batch of {batch} is no multiple "
            f"of. Set {section}.micro_batch so that it is"
        )
    return batch // at_once


def gather_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of all processes on the first one, which alone writes files; an empty list on the others."""
    if world_size() == 1:
        return list(rows)
    from accelerate.utils import gather_object

    gathered = gather_object(list(rows))
    return gathered if int(os.environ["RANK"]) == 0 else []


def run_trainer(trainer: Any, folder: Path) -> None:
    """Train, from the last whole checkpoint if there is one, and save the adapter to `folder`/adapter.

    Raises UserError where the loss or a gradient is not finite, and where memory or disk run out.
    """
    from transformers.trainer_callback import PrinterCallback

    from codevision_lite.train.log import StepLog

    trainer.remove_callback(PrinterCallback)
    if not trainer.is_world_process_zero():
        for log in [c for c in trainer.callback_handler.callbacks if isinstance(c, StepLog)]:
            trainer.remove_callback(log)
    root = Path(trainer.args.output_dir)
    with trainer.accelerator.main_process_first():
        last = last_checkpoint(root)
        require_room("the next checkpoint", root, checkpoint_bytes(trainer.model))
    with explain_memory(trainer):
        if last and checkpoint_step(last) >= trainer.args.max_steps:
            _load_adapter(trainer.model, last)  # stopped before the adapter was saved: train() would do one step more
        else:
            trainer.train(resume_from_checkpoint=str(last) if last else None)
    if trainer.args.should_save:
        _save_adapter(trainer.model, folder)
    trainer.accelerator.wait_for_everyone()


def _load_adapter(model: Any, checkpoint: Path) -> None:
    from peft import load_peft_weights, set_peft_model_state_dict

    set_peft_model_state_dict(model, load_peft_weights(str(checkpoint)))


def _save_adapter(model: Any, folder: Path) -> None:
    partial = folder / "adapter.part"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with explain_refused_write("the adapter", folder, checkpoint_bytes(model) // 3):
            model.save_pretrained(partial, selected_adapters=["default"])  # not the KL term's reference
            flush(partial)
        partial.rename(folder / "adapter")
    finally:
        shutil.rmtree(partial, ignore_errors=True)


# -------------------------------------------------------------------- memory


@contextmanager
def explain_memory(trainer: Any) -> Iterator[None]:
    """Turn memory that ran out, the GPU's or the machine's, into a UserError with the numbers and the key to turn."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as e:  # OSError: a process that could not be started
        if not is_out_of_memory(e):
            raise
        size = trainer.processing_class.image_processor.size["longest_edge"]
        knobs = memory_knobs(trainer.where, trainer.stage, trainer.recipe, size)
        raise UserError(
            f"{trainer.stage} step {trainer.state.global_step + 1}: out of memory in the {trainer.where} ({memory_numbers(e)}). {knobs}. "
            "What fits: codevision-lite plan RECIPE"
        ) from e


def is_out_of_memory(e: BaseException) -> bool:
    """Whether torch (GPU or CPU allocator), numpy, Python or the kernel said that there is no memory left."""
    return isinstance(e, MemoryError | torch.OutOfMemoryError) or _NO_MEMORY.search(str(e)) is not None


def memory_numbers(e: BaseException) -> str:
    """What is allocated and what there is, in GiB; call it while the exception still holds the tensors."""
    asked = re.search(r"allocate ([\d.]+ [KMGT]iB|\d+ bytes)", str(e))
    more = f"; {asked.group(1)} more were asked for" if asked else ""
    if torch.cuda.is_available():
        allocated, reserved = torch.cuda.memory_allocated() / 2**30, torch.cuda.memory_reserved() / 2**30
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory / 2**30
        return f"{allocated:.1f} GiB allocated, {reserved:.1f} reserved, {total:.1f} on the GPU{more}"
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{peak:.1f} GiB at its peak, {total:.1f} in this machine{more}"


def memory_knobs(where: str, stage: str, recipe: Recipe, max_pixels: int) -> str:
    """The key that lowers the peak at `where`, with a smaller value: first what a run may change on its way."""
    section = RECIPE_KEY[stage]
    settings = recipe.sft if stage == "sft" else recipe.rl
    batch = settings.batch if stage == "sft" else settings.prompts * settings.generations
    names = {f.name for f in fields(settings)}
    name = "rollout_batch" if where in ("rollout", "reward") and "rollout_batch" in names else "micro_batch"
    now = getattr(settings, name) or batch  # a rollout batch of None: all at once
    tips = []
    if (where not in ("rollout", "reward") or name == "rollout_batch") and now > 1:
        smaller = max(n for n in range(1, now // 2 + 1) if batch % n == 0)
        tips.append(f"{section}.{name}={smaller} (now {now}), and the same command goes on from the last checkpoint")
    other = [f"model.max_pixels={max_pixels // 2} (now {max_pixels})"]
    if where in ("rollout", "reward"):
        other.append(f"rl.max_tokens={recipe.rl.max_tokens // 2} (now {recipe.rl.max_tokens})")
    if recipe.model.quantize == "none":
        other.append("model.quantize=nf4")
    tips.append(f"{' or '.join(other)} in another run_folder")
    return f"Set {'; or '.join(tips)}"
