"""The tiny base model's own training: its batches and its loss are the stock model's, and a build can be stopped and used."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import fields, replace
from itertools import pairwise

import pytest
import torch
from pictures import picture
from tiny_model import ask
from torch.utils.data import DataLoader

from codevision_lite.geometry import ORIENTATIONS, apply_op
from codevision_lite.models import load_model
from codevision_lite.recipe import PretrainConfig
from codevision_lite.synth.samples import split_of
from codevision_lite.synth.signs import draw_scene
from codevision_lite.synth.signs_scripts import LOOKS
from codevision_lite.train.aside import weight_gradients_aside
from codevision_lite.train.pretrain import (
    PARTS,
    VOCABULARY,
    Gaps,
    Phase,
    _Rows,
    add_gradients,
    build,
    chat_rows,
    collate,
    language_loss,
    picture_rows,
    text_only,
    thought_rows,
    train_tokenizer,
)
from codevision_lite.train.tower import FRAMES, HEADS, _turned_cell, views


def some_rows(n):
    rng = random.Random(0)
    rows = [text_only(rng) for _ in range(n)]
    while len(rows) < 2 * n:
        rows.extend(picture_rows(rng))
    return rows[: 2 * n]


def test_the_language_loss_is_the_stock_models(model, processor):
    batch = collate(processor, some_rows(4))
    with torch.no_grad():
        ours, _ = language_loss(model, batch)
        grid = torch.tensor([[1, 6, 6]]).repeat(len(batch["pixels"]), 1)
        stock = model(
            input_ids=batch["input_ids"], attention_mask=batch["mask"], labels=batch["labels"], image_grid_thw=grid,
            mm_token_type_ids=(batch["input_ids"] == processor.image_token_id).long(), pixel_values=batch["pixels"].flatten(0, 1),
        ).loss  # fmt: skip
    assert float(ours) == pytest.approx(float(stock), abs=1e-4)


def test_only_replies_are_learned(processor):
    rows = some_rows(4)
    batch = collate(processor, rows)
    for row, labels in zip(rows, batch["labels"], strict=True):
        replies = "".join(s.text + "<|im_end|>" for s in row if s.role == "reply")
        assert processor.tokenizer.decode(labels[labels != -100]) == replies


def test_no_row_shows_a_tool_at_work():
    for row in some_rows(40):
        assert not any(s.images and "<tool_call>" in t.text for s in row for t in row if t.role == "reply")
    rng = random.Random(0)
    rows = some_rows(40) + [row for make in (chat_rows, thought_rows) for _ in range(40) for row in make(rng)]
    calls = 0
    for row in rows:
        assert not any("<tool_response>" in s.text for s in row)
        for asked, reply in pairwise(row):
            if "<tool_call>" in reply.text and reply.role == "reply":
                calls += 1
                assert not asked.images and "\nWrite the call for image " in asked.text, "only where a user asks for it, about no picture"
    assert calls > 40


def test_code_that_is_asked_for_after_a_picture_has_nothing_to_do_with_it():
    rng = random.Random(0)
    fits = []
    for _ in range(400):
        for row in thought_rows(rng):
            named = [look for look in LOOKS.values() if f"It is {look}." in row[1].text]
            fits += [f"It is {named[0]}." in s.text for s in row[2:] if "<think>" in s.text and s.role == "prompt" and named]
    assert len(fits) > 60 and sum(fits) < 0.35 * len(fits)


def test_gaps_move_whole_segments_and_nothing_else(processor):
    rng = random.Random(0)
    rows = [next(row for _ in range(100) for row in thought_rows(rng) if len(row) > 4)]
    plain, moved = collate(processor, rows), collate(processor, rows, Gaps(random.Random(1), 48))
    assert all(torch.equal(plain[k], moved[k]) for k in ("input_ids", "labels", "mask", "pixels"))
    shift = (moved["positions"] - plain["positions"])[:, 0]
    assert torch.equal(shift[0], shift[1]) and torch.equal(shift[0], shift[2]), "a picture keeps its shape"
    steps = shift[0].diff()
    assert 0 < (steps > 0).sum() < len(rows[0]) and steps.min() == 0 and steps.max() <= 48
    assert torch.equal(collate(processor, rows, Gaps(random.Random(1), 0))["positions"], plain["positions"])


def test_several_processes_draw_what_one_draws_in_the_same_order(processor):
    phase = Phase("thoughts", 7, 8, 1e-3, thought_rows, longest_gap=24)
    batches = [list(DataLoader(_Rows(processor, PretrainConfig(), phase, 2), batch_size=None, num_workers=n)) for n in (0, 3)]
    whole = list(_Rows(processor, PretrainConfig(), phase, 2, parts=1))
    assert [len(b) for b in batches] == [5, 5] and all(len(parts) == PARTS for parts in batches[0])
    for one, several, (all_rows,) in zip(*batches, whole, strict=True):
        assert all(torch.equal(a[name], b[name]) for a, b in zip(one, several, strict=True) for name in ("input_ids", "positions"))
        assert sum(int(part["mask"].sum()) for part in one) == int(all_rows["mask"].sum()), "a GPU's one part holds the same rows"


def test_pictures_that_are_seen_ahead_change_no_number(model, processor):
    phase = Phase("chat", 1, 16, 1e-3, chat_rows)
    (plain,), (ahead,) = ([*_Rows(processor, PretrainConfig(), phase, 0, frozen=tower)] for tower in (None, model.model.visual))
    n_pictures = 0
    for one, other in zip(plain, ahead, strict=True):
        assert other["pixels"] is None
        n_pictures += len(other.get("states", ()))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert language_loss(model, one)[0].item() == language_loss(model, other)[0].item()
    assert n_pictures > 10


def test_weight_gradients_aside_are_the_same_bytes(model, processor):
    model = deepcopy(model).requires_grad_(False)
    model.model.language_model.requires_grad_(True)
    model.model.visual.merger.requires_grad_(True)
    batches = [collate(processor, some_rows(n)) for n in (2, 3)]

    def gradients(where):
        model.zero_grad()
        with where as wait:
            for batch in batches:
                with torch.autocast("cpu", torch.bfloat16):
                    language_loss(model, batch)[0].backward()
            wait()
        return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}

    plain, aside = gradients(nullcontext(lambda: None)), gradients(weight_gradients_aside(model.model))
    assert all(torch.equal(plain[name], aside[name]) for name in plain)
    assert sum(bool(gradient.any()) for gradient in plain.values()) > 40
    assert not any("forward" in vars(layer) for layer in model.modules())


def test_parts_side_by_side_are_the_same_bytes_as_one_after_the_other(model, processor):
    model = deepcopy(model).requires_grad_(False)
    model.model.language_model.requires_grad_(True)
    model.model.visual.merger.requires_grad_(True)
    trained = [p for p in model.parameters() if p.requires_grad]
    words = collate(processor, [text_only(random.Random(0))])  # has no use for the merger
    parts = [words, *(collate(processor, some_rows(n)) for n in (1, 2, 3))]
    n_tokens = [int((part["labels"][:, 1:] != -100).sum()) for part in parts]
    expected = 0.0
    for part, n in zip(parts, n_tokens, strict=True):
        with torch.autocast("cpu", torch.bfloat16):
            loss = language_loss(model, part)[0] * (n / sum(n_tokens))
        loss.backward()
        expected += loss.item()
    plain = [p.grad for p in trained]
    model.zero_grad()
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        loss, right = add_gradients(model, trained, parts, pool)
    assert loss == expected and len(right) == sum(len(part["labels"]) for part in parts)
    assert all(torch.equal(a, p.grad) for a, p in zip(plain, trained, strict=True))
    assert sum(bool(gradient.any()) for gradient in plain) > 40


def test_the_tokenizer_is_the_same_for_the_same_seed_and_fits_the_vocabulary(processor):
    assert train_tokenizer(0).get_vocab() == processor.tokenizer.get_vocab()
    assert len(processor.tokenizer) <= VOCABULARY


@pytest.mark.parametrize("damage", ORIENTATIONS)
def test_a_cell_is_where_its_pixels_go(damage):
    grid = picture(90, 90)
    for cell in range(9):
        x, y = 30 * (cell % 3), 30 * (cell // 3)
        marked = grid.point(lambda v: 0)
        marked.paste((255, 255, 255), (x, y, x + 30, y + 30))
        x1, y1, _, _ = apply_op(marked, damage).getbbox()
        assert _turned_cell(cell, damage) == x1 // 30 + 3 * (y1 // 30)


def test_the_tower_is_asked_to_read_only_what_can_be_read_as_it_lies():
    rng = random.Random(0)
    asked = dict.fromkeys(HEADS, 0)
    for _ in range(60):
        for pixels, labels in views(rng, 1.0, lambda key: split_of(key) == "train"):
            assert pixels.shape == (84, 84, 3)
            assert set(labels) == set(HEADS)
            for name, (n, classes) in HEADS.items():
                assert len(labels[name]) == n and all(v == -100 or 0 <= v < classes for v in labels[name])
                asked[name] += labels[name][0] != -100
            turned = labels["orientation"][0] not in (-100, FRAMES.index("none"))
            assert not (turned and (labels["main"] != [-100] or labels["cells"][0] != -100))
    assert min(asked.values()) > 0


def test_scenes_draw_alike_from_equal_generators():
    a, b = (draw_scene(random.Random(5)) for _ in range(2))
    assert a.image.tobytes() == b.image.tobytes() and a.content_key == b.content_key


@pytest.mark.slow
def test_a_build_of_a_few_steps_resumes_and_can_be_loaded(tmp_path, capsys):
    few = {f.name: 2 for f in fields(PretrainConfig) if f.name.endswith("_steps")}
    few |= {f.name: 6 for f in fields(PretrainConfig) if f.name.endswith("_batch")}
    config = replace(PretrainConfig(), out_folder=str(tmp_path / "model"), work_folder=str(tmp_path / "work"), **few)
    build(config)
    first = (tmp_path / "model" / "model.safetensors").read_bytes()
    capsys.readouterr()
    build(config)
    assert "step" not in capsys.readouterr().out, "nothing is trained again"
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == first
    (reply,) = load_model(str(tmp_path / "model")).reply([ask("What?", picture())], 4)
    assert len(reply.token_ids) >= 1
