"""Micro-batches of like lengths for TRL's GRPO: the same gradient for about half of the update's time and less memory.

TRL pads all trajectories of a step to the longest one and shuffles them into micro-batches, so that a rollout of 100 tokens
costs what one of 500 does. Here a step's trajectories are sorted by length first, and every micro-batch is cut to its own
longest. Trajectories whose group was rewarded alike have no advantage and, without a KL term, no gradient: they come last, and,
in a single process, a micro-batch of nothing else is passed over. It relies on: `_prepare_inputs`, `_buffered_inputs`, `compute_loss`,
`_get_per_token_logps_and_entropies`, and trl.trainer.utils.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from trl.trainer.utils import split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid

ROUNDING = 1e-6  # eight equal rewards near 1 and their float32 mean differ by less
_PICTURES = ("pixel_values", "image_grid_thw")  # rows are patches and pictures, not trajectories


class ByLength:
    """Mixin over `trl.GRPOTrainer` (or a subclass)."""

    _by_length: list[dict[str, Any]] | None = None

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        inputs = super()._prepare_inputs(generation_batch)
        if not self.model.training or self._buffered_inputs is self._by_length:
            return inputs
        batches = self._buffered_inputs
        one_update = self.args.steps_per_generation == self.args.gradient_accumulation_steps
        if one_update and self.args.loss_type != "bnpo":  # whose weights depend on who shares a micro-batch
            batches = by_length(batches)
        self._buffered_inputs = self._by_length = [without_padding(batch) for batch in batches]
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """TRL's; a micro-batch without a gradient isn't computed, and what TRL logs of its tokens leaves it out.

        Several processes compute all: one would pass over what another waits for.
        """
        needed = self.beta or self._entropy_bonus_enabled or self.loss_type == "bnpo" or self.accelerator.num_processes > 1
        if needed or not model.training or with_gradient(inputs).any():
            return super().compute_loss(model, inputs, *args, **kwargs)
        return 0.0 * next(p for p in model.parameters() if p.requires_grad).sum()

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's (log-probabilities, entropies, loss of experts). With a batch size it is a pass over a whole step without a
        gradient, the reference's of the KL term; anything else, and Unsloth's calls, go on as they are."""
        pictures = ("num_images", "mm_token_type_ids", *_PICTURES)
        whole_step = len(args) == 4 and {"batch_size", *pictures} <= kwargs.keys() <= {"batch_size", "num_tiles", *pictures}
        if not whole_step or torch.is_grad_enabled() or any(kwargs[name] is None for name in ("batch_size", *pictures)):
            return super()._get_per_token_logps_and_entropies(*args, **kwargs)
        (model, ids, mask, kept), batch_size = args, kwargs["batch_size"]
        step = {
            "prompt_ids": ids[:, :-kept], "prompt_mask": mask[:, :-kept],
            "completion_ids": ids[:, -kept:], "completion_mask": mask[:, -kept:],
            "row": torch.arange(len(ids), device=ids.device), **{name: kwargs[name] for name in pictures},
        }  # fmt: skip
        logps = torch.zeros(len(ids), kept, device=ids.device)
        n = next(n for n in range(-(-len(ids) // batch_size), len(ids) + 1) if len(ids) % n == 0)  # TRL only splits into equal parts
        for batch in map(without_padding, by_length([step], n)):
            both = (torch.cat([batch[f"prompt_{what}"], batch[f"completion_{what}"]], dim=1) for what in ("ids", "mask"))
            width = batch["completion_ids"].shape[1]
            own, *_ = super()._get_per_token_logps_and_entropies(model, *both, width, **{name: batch[name] for name in pictures})
            logps[batch["row"], :width] = own.to(logps.dtype)
        return logps, None, None


def by_length(batches: Sequence[dict[str, Any]], n: int | None = None) -> list[dict[str, Any]]:
    """The same rows in `n` micro-batches (None: as many as there are): those with a gradient before the others, the longest
    trajectories first, so that memory that will not do shows at once."""
    parts = [split_pixel_values_by_grid(batch) for batch in batches]
    order = torch.cat([batch["completion_mask"].sum(1) for batch in parts]).argsort(descending=True, stable=True)
    counts = torch.cat([with_gradient(batch) for batch in parts])
    order = torch.cat([order[counts[order]], order[~counts[order]]])
    rows: dict[str, Any] = {}
    for name, value in parts[0].items():
        columns = [batch[name] for batch in parts]
        if isinstance(value, list):
            together = [row for column in columns for row in column]
            rows[name] = [together[i] for i in order.tolist()]
        elif isinstance(value, torch.Tensor) and value.ndim:
            rows[name] = torch.cat(columns).to(order.device)[order]  # on a GPU not all of TRL's columns are there
        else:
            rows[name] = value
    return [unsplit_pixel_values_by_grid(batch) for batch in split_tensor_dict(rows, n or len(batches))]


def with_gradient(batch: dict[str, Any]) -> torch.Tensor:
    """(B,), whether a row's advantage is more than the rounding of a mean. Without advantages all are."""
    if "advantages" not in batch:
        return torch.ones(len(batch["completion_mask"]), dtype=torch.bool, device=batch["completion_mask"].device)
    return batch["advantages"].abs() > ROUNDING


def without_padding(batch: dict[str, Any]) -> dict[str, Any]:
    """A micro-batch without the columns that are padding in all of its rows: prompts are padded on the left, the rest on the right."""
    rows, width = batch["prompt_mask"].shape
    kept = batch["completion_mask"].shape[1]
    first = width - int(batch["prompt_mask"].sum(1).max())
    last = int(batch["completion_mask"].sum(1).max())
    cut = {}
    for name, value in batch.items():
        if not isinstance(value, torch.Tensor) or value.ndim != 2 or name in _PICTURES or len(value) != rows:
            continue
        if name.startswith("prompt_"):
            cut[name] = value[:, first:]
        elif value.shape[1] == width + kept:  # of prompt and completion together: token types
            cut[name] = value[:, first : width + last]
        elif value.shape[1] == kept:
            cut[name] = value[:, :last]
    return {**batch, **cut}
