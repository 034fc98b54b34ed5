"""Text and pictures to tensors: one way in SFT, RL and evaluation, and the same numbers as the stock code's."""

from __future__ import annotations

import pytest
import torch
from pictures import picture, same, sample
from tiny_model import ToldModel, ask, token_ids

from codevision_lite.agent import AgentLimits, dialogue_of, run_episodes
from codevision_lite.datasets.rows import load_training_rows, trajectory_row
from codevision_lite.files import append_jsonl
from codevision_lite.models import Dialogue, Segment
from codevision_lite.models.encoding import encode_dialogue, encode_segment, image_inputs, rope_positions
from codevision_lite.protocol import IMAGE, LAST_TURN, render_observation, render_reply
from codevision_lite.records import ToolCall
from codevision_lite.train.grpo import split_episode
from codevision_lite.train.sft import TrajectoryCollator
from codevision_lite.train.tower import patches, tower_tokens

SIZES = {
    "one square": [(84, 84)],
    "one wide": [(300, 40)],
    "one tall": [(40, 300)],
    "several shapes": [(84, 84), (300, 40), (40, 300), (200, 120)],
    "equal shapes": [(120, 60)] * 3,
}


def show(sizes):
    """A dialogue that is shown pictures of these sizes, one a turn."""
    dialogue = ask("What is written here?", picture(*sizes[0]))
    for i, size in enumerate(sizes[1:], 1):
        dialogue.segments.append(Segment("reply", render_reply("I look.", ToolCall("result = image"))))
        dialogue.segments.append(Segment("observation", render_observation(f"Image {i}.", True), (picture(*size, seed=i),)))
    dialogue.segments.append(Segment("reply", render_reply("I see.", answer="F")))
    return dialogue


def rope_of(processor, dialogue, inputs):
    return rope_positions(token_ids(dialogue), inputs.grid_thw.numpy(), processor.image_token_id, processor.image_processor.merge_size)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_positions_are_those_of_the_stock_model(processor, model, sizes):
    dialogue = show(sizes)
    inputs = encode_dialogue(processor, dialogue)
    ids = torch.tensor([token_ids(dialogue)])
    stock, _ = model.model.get_rope_index(ids, (ids == processor.image_token_id).long(), image_grid_thw=inputs.grid_thw)
    assert torch.equal(torch.from_numpy(rope_of(processor, dialogue, inputs)), stock[:, 0])


def test_positions_of_text_count_up(processor):
    positions = rope_positions([5, 6, 7], torch.zeros(0, 3, dtype=int).numpy(), processor.image_token_id, 2)
    assert positions.tolist() == [[0, 1, 2]] * 3


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_a_picture_becomes_as_many_tokens_as_its_grid(processor, sizes):
    dialogue = show(sizes)
    inputs = encode_dialogue(processor, dialogue)
    assert inputs.grid_thw.shape == (len(sizes), 3)
    assert token_ids(dialogue).count(processor.image_token_id) == int(inputs.grid_thw.prod(1).sum()) // 4
    assert inputs.pixel_values.shape[0] == int(inputs.grid_thw.prod(1).sum())


def test_segments_give_the_tokens_of_the_whole_text(processor):
    """Special tokens bound every segment, so that tokenising piece by piece loses nothing."""
    dialogue = show(SIZES["several shapes"])
    inputs = encode_dialogue(processor, dialogue)
    counts = iter((inputs.grid_thw.prod(1) // 4).tolist())
    whole = "".join(s.text + ("<|im_end|>" if s.role == "reply" else "") for s in dialogue.segments)
    first, *rest = whole.split("<|image_pad|>")
    expanded = first + "".join("<|image_pad|>" * next(counts) + part for part in rest)
    assert processor.tokenizer(expanded, add_special_tokens=False)["input_ids"] == token_ids(dialogue)


def test_a_reply_ends_with_the_end_of_its_turn(processor):
    ids = encode_segment(processor, Segment("reply", "<answer>F</answer>"), None)
    assert processor.tokenizer.decode(ids) == "<answer>F</answer><|im_end|>"


def test_encoding_again_changes_nothing(processor):
    dialogue = show(SIZES["several shapes"])
    first = encode_dialogue(processor, dialogue)
    dialogue.segments[1].token_ids.append(7)  # as a sampled reply that the tokenizer would write in another way
    before = token_ids(dialogue)
    again = encode_dialogue(processor, dialogue)
    assert token_ids(dialogue) == before
    assert torch.equal(first.pixel_values, again.pixel_values)


@pytest.mark.parametrize("segment, grids", [(Segment("prompt", IMAGE), None), (Segment("prompt", "text"), torch.tensor([[1, 6, 6]]))])
def test_a_placeholder_without_its_picture_stops_at_once(processor, segment, grids):
    with pytest.raises(AssertionError, match="image placeholders"):
        encode_segment(processor, segment, grids)


@pytest.mark.parametrize("text", ["w, h = image.size\nresult = image.crop((w//3, 0))", "Größe 漢字 🙂", "  a  b\n\n", "<think>a</think>"])
def test_the_tokenizer_reads_back_what_it_wrote(processor, text):
    assert processor.tokenizer.decode(processor.tokenizer(text, add_special_tokens=False)["input_ids"]) == text


EPISODES = {
    "direct": [render_reply("I see.", answer="F")],
    "two pictures": [
        render_reply("Turn.", ToolCall("result = image.rotate(90, expand=True)")),
        render_reply("Crop.", ToolCall("print('crop')\nresult = image.crop((10, 10, 60, 30))", image_index=1)),
        render_reply("I see.", answer="F"),
    ],
    "mistakes": [
        render_reply("Turn.", ToolCall("result = picture.rotate(90)")),
        "<tool_call>{",
        render_reply("Turn.", ToolCall("result = image.rotate(180)", image_index=4)),
        render_reply("Turn.", ToolCall("result = image.rotate(180)")),
        render_reply("I see.", answer="F"),
    ],
    "printed special tokens": [
        render_reply("Print.", ToolCall("t = '<' + '|'\nprint(t + 'image_pad|>' + t + 'im_end|>')\nresult = image.rotate(180)")),
        render_reply("Fail.", ToolCall("raise ValueError('<' + '|image_pad|>')")),
        render_reply("I see.", answer="F"),
    ],
    "odd modes": [
        render_reply("Clear.", ToolCall("result = Image.new('RGBA', (40, 30), (200, 0, 0, 90))")),
        render_reply("Grey.", ToolCall("result = image.convert('L').rotate(180)")),
        render_reply("I see.", answer="F"),
    ],
}  # fmt: skip


LIMITS = {"two pictures": {"max_turns": 3, "final_answer": True}, "odd modes": {"max_images": 2, "final_answer": True}}


@pytest.mark.parametrize("name", EPISODES)
def test_sft_rl_and_evaluation_see_the_same_prompt_tokens_and_pixels(tmp_path, processor, model, sandbox, name):
    replies = EPISODES[name]
    start = sample(130, 90)
    told = ToldModel(model, processor, script=lambda dialogue, row: replies[sum(s.role == "reply" for s in dialogue.segments)])
    (episode,) = run_episodes(told, sandbox, [start], AgentLimits(max_reply_tokens=200, **LIMITS.get(name, {})))
    trajectory = episode.trajectory()
    assert (trajectory.end_reason, [t.text for t in trajectory.turns]) == ("answer", replies)

    last_shown = [s.text for s in episode.dialogue.segments if s.role == "observation"][-1:]
    assert any(LAST_TURN in text for text in last_shown) == (name in LIMITS), "the model is told where its last turn is"

    prompt, completion, mask, _ = split_episode(episode)
    rl_pixels = image_inputs(processor, list(episode.dialogue.images))

    append_jsonl(tmp_path / "rows.jsonl", trajectory_row(tmp_path, start, trajectory))
    rows = load_training_rows(tmp_path / "rows.jsonl")
    batch = TrajectoryCollator(rows, processor)([{"index": 0}])

    evaluated = dialogue_of(rows[0].sample, rows[0].trajectory)
    encode_dialogue(processor, evaluated)
    assert [s.text for s in evaluated.segments] == [s.text for s in episode.dialogue.segments]
    assert prompt + completion == token_ids(episode.dialogue) == token_ids(evaluated) == batch["input_ids"][0].tolist()
    assert all(map(same, evaluated.images, episode.dialogue.images))
    assert torch.equal(rl_pixels.pixel_values, batch["pixel_values"])
    assert torch.equal(rl_pixels.grid_thw, batch["image_grid_thw"])
    learned = (batch["labels"][0] != -100).long().tolist()
    assert learned == [0] * len(prompt) + mask


def test_a_dialogue_without_pictures_encodes(processor):
    dialogue = Dialogue([Segment("prompt", "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"), Segment("reply", "Yes")])
    assert encode_dialogue(processor, dialogue) is None
    assert processor.tokenizer.decode(token_ids(dialogue)).endswith("assistant\nYes<|im_end|>")


def test_the_towers_patches_are_the_image_processors(processor):
    pictures = [picture(84, 84, seed) for seed in range(3)]
    stock = image_inputs(processor, pictures)
    pixels = torch.stack([torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8).view(84, 84, 3) for p in pictures])
    ours = patches(pixels, processor.image_processor.image_mean, processor.image_processor.image_std)
    assert ours.shape == (3, 36, 1176)
    assert torch.allclose(ours.flatten(0, 1), stock.pixel_values, atol=1e-5)


def test_the_towers_tokens_are_the_stock_forwards(processor, model):
    stock = image_inputs(processor, [picture(84, 84, seed) for seed in range(3)])
    with torch.no_grad():
        ours = tower_tokens(model.model.visual, stock.pixel_values.view(3, 36, 1176))
        theirs = torch.cat(list(model.model.get_image_features(stock.pixel_values, stock.grid_thw).pooler_output))
    assert theirs.std() > 0.1
    assert torch.allclose(ours.flatten(0, 1), theirs, atol=1e-4)
