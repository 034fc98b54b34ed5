"""The peak GPU memory of SFT and GRPO, part by part, from a recipe and the model's shape alone: no weight is loaded.

The formulas follow what the trainers do at their worst moment: TRL 1.14.2, PEFT, bitsandbytes NF4, bf16 autocast, gradient
checkpointing, PyTorch's attention with a mask. Their coefficients were read off an allocation trace of the real model code at its
true width (tests/test_memory.py traces it again). `codevision-lite gpu-check` compares them with a GPU: SFT's peak on an H100 is 4 to 6 %
below (benchmarks/gpu). Unsloth keeps less (it moves checkpoints to the host and chunks the logits), so for it the numbers are upper bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

from codevision_lite.protocol import IMAGE, render_prompt
from codevision_lite.recipe import EvalStage, Recipe, RLStage
from codevision_lite.train.shapes import Shape

GIB = 2**30
CONTEXT = int(0.6 * GIB)  # what CUDA, cuBLAS and the kernels take outside torch's allocator; varies with card and driver
FRAGMENTATION = 0.06  # of torch's part: what the allocator reserves and can't hand out
BF16, FP32 = 2, 4
TINY_HIDDEN = 1024  # models/load.py computes narrower ones in float32
_SFT_CHUNK = 256  # TRL computes the SFT loss on so many labels at a time ...
_SFT_CHUNK_COPIES = 6.8  # ... and holds so many float32 copies of their logits at its peak
_LOGITS_COPIES = 2  # float32: kept for the backward pass, and their gradient
_CHARACTERS_A_TOKEN = 3.5  # of English and JSON, rounded down: the tokenizer is not loaded
_QUESTION, _SHORT_QUESTION = 240, 20  # characters
_OBSERVATION = 40  # tokens around a picture that a tool returns
_CHOICE_COPIES = 6  # float32, of the next token's probabilities, while one is drawn
# Of models/hf.py, models/vision.py and models/kv.py, which import torch; a test compares.
_PREFILL_TOKENS, _KEPT_TOKENS, _TOWER_TOKENS, _HEADROOM, _HEADROOM_SHARE = 16_384, 32_768, 4096, 32, 1 / 16


@dataclass(frozen=True)
class Tokens:
    """Lengths that the memory depends on, in tokens; those of the longest trajectory that the recipe allows."""

    prompt: int  # with its picture
    trajectory: int  # with all pictures
    images: int  # the user's included
    image: int  # tokens of one picture under the pixel budget
    shortest_prompt: int | None = None  # None: all prompts are alike

    @property
    def completion(self) -> int:
        """The longest: a trajectory that begins with the shortest prompt."""
        return self.trajectory - (self.shortest_prompt or self.prompt)

    def padded(self, rows: int) -> int:
        """Width of a GRPO micro-batch: prompts end, and completions begin, at one column."""
        return self.trajectory if rows == 1 else self.prompt + self.completion


@dataclass(frozen=True)
class Stage:
    """The peak of one stage, in bytes. `held` is there all the time; of `moments` the largest is the peak's."""

    name: str
    held: dict[str, int]
    moments: dict[str, int]

    @property
    def moment(self) -> str:
        return max(self.moments, key=self.moments.__getitem__)

    @property
    def allocated(self) -> int:
        """What torch.cuda.max_memory_allocated() would say."""
        return sum(self.held.values()) + self.moments[self.moment]

    @property
    def total(self) -> int:
        """What the card must have."""
        return round(self.allocated * (1 + FRAGMENTATION)) + CONTEXT


def count_tokens(recipe: Recipe, shape: Shape, stage: RLStage | EvalStage | None = None) -> Tokens:
    """The longest trajectory of the stage (None: of RL): every reply at its cap, every picture at the pixel budget, cut where the
    agent stops: a reply that began below max_tokens may end above it, unless room for the last one is held free."""
    stage = stage or recipe.rl
    end = stage.max_tokens + (0 if stage.final_answer else stage.max_reply_tokens)
    image = max(1, (recipe.model.max_pixels or shape.max_pixels) // shape.token_pixels)
    text = render_prompt("x" * _QUESTION, (1000, 1000)).replace(IMAGE, "")
    prompt = round(len(text) / _CHARACTERS_A_TOKEN) + image + 2
    smallest = min(image, max(1, (recipe.model.min_pixels or 0) // shape.token_pixels))
    shortest = prompt - image + smallest - round((_QUESTION - _SHORT_QUESTION) / _CHARACTERS_A_TOKEN)
    images = min(stage.max_images, stage.max_turns)  # a call in the last turn is not run
    uncut = prompt + (images - 1) * (image + _OBSERVATION) + stage.max_turns * stage.max_reply_tokens
    return Tokens(prompt, max(prompt + 1, min(end, uncut)), images, image, shortest)


def predict(recipe: Recipe, shape: Shape, tokens: Tokens | None = None) -> tuple[Stage, ...]:
    """SFT, RL rollouts, RL update and evaluation. `tokens`: lengths that were measured, in place of the longest allowed."""
    longest = tokens or count_tokens(recipe, shape)
    evaluated = tokens or count_tokens(recipe, shape, recipe.eval)
    return (
        _sft(recipe, shape, longest), _rollouts(recipe, shape, longest), _update(recipe, shape, longest),
        _evaluation(recipe, shape, evaluated),
    )  # fmt: skip


def _weights(recipe: Recipe, shape: Shape) -> dict[str, int]:
    wide = FP32 if shape.hidden < TINY_HIDDEN else BF16
    other = shape.vision_parameters() + shape.other_parameters()
    if recipe.model.quantize == "nf4":
        return {"language weights, NF4": shape.nf4_bytes(), "vision, embeddings, head": other * wide}
    return {"language weights": shape.linear_weights() * wide, "vision, embeddings, head": other * wide}


def _adapter(recipe: Recipe, shape: Shape, *, gradients: bool, reference: bool) -> dict[str, int]:
    """float32: the adapter, Adam's two moments, and the gradients; and the copy in bf16 that autocast computes with."""
    n = shape.lora_parameters(recipe.model.lora_r)
    return {"adapter and optimizer": n * (FP32 * (3 + gradients + reference) + BF16)}


def _sft(recipe: Recipe, shape: Shape, tokens: Tokens) -> Stage:
    rows = recipe.sft.micro_batch
    held = _weights(recipe, shape) | _adapter(recipe, shape, gradients=True, reference=False)
    held |= _inputs(shape, tokens, rows, tokens.trajectory)
    loss = round(_SFT_CHUNK_COPIES * _SFT_CHUNK * shape.vocab * FP32)
    return Stage("SFT", held, {"logits of the loss": loss, **_recomputed(shape, tokens, rows, tokens.trajectory, recipe)})


def _update(recipe: Recipe, shape: Shape, tokens: Tokens) -> Stage:
    """Micro-batches hold trajectories of like lengths, cut to their own longest, the longest first (train/grpo.py): the peak is that
    first one's, and no more than that of `rows` trajectories of the longest kind, which is what is planned: an upper bound."""
    rows, stage = recipe.rl.micro_batch, recipe.rl
    held = _weights(recipe, shape) | _adapter(recipe, shape, gradients=True, reference=stage.beta > 0)
    held |= _batch_pictures(recipe, shape, tokens) | _inputs(shape, tokens, rows, tokens.padded(rows))
    logits = round(_LOGITS_COPIES * rows * tokens.completion * shape.vocab * FP32)
    moments = {"logits of the loss": logits, "pictures of the step, sorted": sum(_batch_pictures(recipe, shape, tokens).values())}
    return Stage("RL update", held, moments | _recomputed(shape, tokens, rows, tokens.padded(rows), recipe))


def _inputs(shape: Shape, tokens: Tokens, rows: int, width: int) -> dict[str, int]:
    """The pictures, and what the forward pass leaves for the backward pass under gradient checkpointing: the input of every
    layer. The frozen tower leaves nothing (train/load.py)."""
    pictures = rows * tokens.images * tokens.image
    return {
        "layer checkpoints": rows * width * BF16 * shape.hidden * (shape.layers + 3),
        "pictures of the micro-batch": pictures * (shape.merge**2 * FP32 * shape.patch_values + BF16 * shape.hidden),
    }


def _recomputed(shape: Shape, tokens: Tokens, rows: int, width: int, recipe: Recipe) -> dict[str, int]:
    """One layer's recomputation with its gradients; and before it the tower, which keeps nothing."""
    h, i, length = shape.hidden, shape.intermediate, rows * width
    expanded = FP32 * shape.attention  # keys and values are repeated for the query heads where there is a mask
    later = length * BF16 * shape.hidden * shape.layers  # the language model's checkpoints are not there yet
    layer = length * (14 * i + 30 * h + expanded + BF16 * width + 14 * recipe.model.lora_r) + BF16 * h * i
    return {"one layer's recomputation": layer, "vision tower": max(0, rows * tokens.images * tower_bytes(shape, tokens) - later)}


def _batch_pictures(recipe: Recipe, shape: Shape, tokens: Tokens) -> dict[str, int]:
    """TRL keeps the float32 patches of a whole step's rollouts on the GPU."""
    patches = recipe.rl.prompts * recipe.rl.generations * tokens.images * tokens.image * shape.merge**2
    return {"pictures of the step": patches * shape.patch_values * FP32}


def _rollouts(recipe: Recipe, shape: Shape, tokens: Tokens) -> Stage:
    held = _weights(recipe, shape) | _adapter(recipe, shape, gradients=False, reference=recipe.rl.beta > 0)
    held |= _batch_pictures(recipe, shape, tokens)  # of the step before, until this one's are ready
    seen = recipe.rl.prompts * recipe.rl.generations * tokens.images * tokens.image
    return _generation("RL rollouts", held, shape, tokens, rollout_rows(recipe), recipe.rl.max_reply_tokens, seen)


def _evaluation(recipe: Recipe, shape: Shape, tokens: Tokens) -> Stage:
    held = _weights(recipe, shape) | {"adapter and optimizer": shape.lora_parameters(recipe.model.lora_r) * FP32}
    return _generation("evaluation", held, shape, tokens, recipe.eval.batch, recipe.eval.max_reply_tokens, _KEPT_TOKENS)


def _generation(name: str, held: dict[str, int], shape: Shape, tokens: Tokens, rows: int, reply: int, seen: int) -> Stage:
    """models/hf.py: every open row has a slot of the one buffer, decoded or waiting for the sandbox, as wide as the longest; a turn's
    new tokens are prefilled for as many rows at once as PREFILL_TOKENS allows. `seen`: image tokens of all pictures."""
    new = tokens.image + _OBSERVATION  # a turn's observation; prompts are fewer: one for each group
    batch = min(rows, max(1, _PREFILL_TOKENS // new))
    waiting = max(1, tokens.trajectory - reply)  # length of the longest row that is prefilled
    h, i = shape.hidden, shape.intermediate
    mlp, attention = batch * new * (8 * i + 10 * h), batch * waiting * FP32 * shape.attention + batch * new * (10 * h + 3 * waiting)
    pictures = min(batch, max(1, _TOWER_TOKENS // tokens.image))
    columns = tokens.trajectory + max(_HEADROOM, int(tokens.trajectory * _HEADROOM_SHARE))
    held = held | {
        "KV cache": kv_bytes(shape, rows, columns) + kv_bytes(shape, 1, tokens.prompt),  # the last prompt is kept for its other rollouts
        "pictures' features": min(seen, _KEPT_TOKENS) * BF16 * h,
    }
    moments = {
        "prefill of a turn": max(mlp, attention) + BF16 * h * i,
        "decoding": rows * (tokens.trajectory * FP32 * shape.attention + _CHOICE_COPIES * shape.vocab * FP32) + BF16 * h * i,
        "vision tower": pictures * (tower_bytes(shape, tokens) + tokens.image * shape.merge**2 * FP32 * shape.patch_values),
    }
    return Stage(name, held, moments)


def tower_bytes(shape: Shape, tokens: Tokens) -> int:
    """What the tower holds at its peak on the way to one picture's features, beside the picture; no gradients."""
    widths = max(round(34.5 * shape.v_hidden), round(6 * shape.v_intermediate + 6.5 * shape.v_hidden))
    return tokens.image * shape.merge**2 * widths


def rollout_rows(recipe: Recipe) -> int:
    """Trajectories that are generated at once."""
    return min(recipe.rl.rollout_batch or 10**9, recipe.rl.prompts * recipe.rl.generations)


def kv_bytes(shape: Shape, rows: int, tokens: int) -> int:
    """Keys and values in 16 bits (float32 for a tiny model) of `rows` sequences of `tokens`."""
    return rows * tokens * shape.layers * 2 * shape.kv * (FP32 if shape.hidden < TINY_HIDDEN else BF16)
