"""The loop: pictures and errors come back as observations, every ending is reached, and every picture maps to the user's."""

from __future__ import annotations

import json
import random
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from pictures import picture, same, sample
from PIL import Image

from codevision_lite.agent import AgentLimits, dialogue_of, run_batch, run_episode, run_episodes
from codevision_lite.errors import UserError
from codevision_lite.models import ScriptedModel, Segment
from codevision_lite.protocol import LAST_TURN, NOT_SHOWN, TOOL_NAME, render_reply
from codevision_lite.records import ToolCall, Trajectory

ANSWER = render_reply("I can read it.", answer="F")


def call(code, index=0):
    return render_reply("I look.", ToolCall(code, image_index=index))


TURN = call("result = image.rotate(90, expand=True)")


class ScriptByQuestion:
    """Replies by the sample's question; a reply may be a Segment, for cut replies and token counts."""

    def __init__(self, batch_size=64, **scripts):
        self.batch_size, self.scripts, self.batches = batch_size, scripts, []

    def reply(self, dialogues, max_new_tokens):
        self.batches.append(len(dialogues))
        replies = []
        for dialogue in dialogues:
            script = next(v for name, v in self.scripts.items() if f"\n{name}<" in dialogue.segments[0].text)
            reply = script[sum(s.role == "reply" for s in dialogue.segments)]
            replies.append(replace(reply) if isinstance(reply, Segment) else Segment("reply", reply))
        return replies


def run(replies, sandbox, start=None, **limits):
    return run_episode(ScriptedModel(replies), sandbox, start or sample(40, 30), AgentLimits(**limits))


def test_the_picture_that_the_code_made_comes_back_with_what_ran(sandbox):
    start = sample(40, 30)
    trajectory = run([TURN, ANSWER], sandbox, start)
    first, last = trajectory.turns
    seen = first.observation
    assert (trajectory.answer, trajectory.end_reason, trajectory.n_tool_turns, len(trajectory.images)) == ("F", "answer", 1, 2)
    assert (seen.status, seen.image_index, seen.source_index, seen.message) == ("ok", 1, 0, "Image 1: 30x40 pixels.")
    assert [op.name for op in seen.ops] == ["rotate"]
    assert first.call == ToolCall("result = image.rotate(90, expand=True)") and first.well_formed and last.well_formed
    assert same(trajectory.images[1], start.image.transpose(Image.Transpose.ROTATE_90))


@pytest.mark.parametrize("index, width", [(0, 20), (1, 10), (2, 5)])
def test_image_index_chooses_the_picture(sandbox, index, width):
    halve = "result = image.crop((0, 0, image.width // 2, image.height))"
    trajectory = run([call(halve), call(halve, 1), call(halve, index), ANSWER], sandbox)
    assert trajectory.images[3].width == width
    assert trajectory.turns[2].observation.source_index == index


def test_the_code_sees_all_pictures_so_far(sandbox):
    trajectory = run([TURN, call("result = images[1].crop((0, 0, images[0].width // 4, len(images)))"), ANSWER], sandbox)
    assert trajectory.images[2].size == (10, 2)


ERRORS = {
    "malformed JSON": ("<think>t</think><tool_call>{</tool_call>", "format", "not valid JSON"),
    "no action": ("I am not sure.", "format", "no tool call and no answer"),
    "unknown tool": ('<think>t</think><tool_call>{"name": "zoom"}</tool_call>', "format", "Unknown tool 'zoom'"),
    "image_index too large": (call("result = image.rotate(90)", 1), "error", "no image 1; image_index goes from 0 to 0"),
    "image_index negative": (call("result = image.rotate(90)", -1), "error", "no image -1"),
    "image_index huge": (call("result = image.rotate(90)", 10**30), "error", "no image 1000"),
    "refused import": (call("import subprocess\nresult = image.rotate(90)"), "refused", "subprocess"),
    "syntax error": (call("result = image.rotate(90"), "error", "line 1"),
    "crash": (call("x = 1\nresult = image.crop((0, 0, x / 0, 1))"), "error", "line 2"),
    "no result": (call("turned = image.rotate(90)"), "error", "turned"),
    "unchanged": (call("result = image"), "error", "same as the input"),
    "empty code": (call(""), "error", "result"),
    "result is no picture": (call("result = 7"), "error", "int"),
    "empty picture": (call("result = image.crop((5, 5, 5, 9))"), "error", "is empty"),
    "too thin for the model": (call("result = image.resize((400, 1))"), "output", "narrow"),
}  # fmt: skip


@pytest.mark.parametrize("reply, status, words", ERRORS.values(), ids=ERRORS.keys())
def test_a_mistake_is_shown_to_the_model_and_the_episode_goes_on(sandbox, reply, status, words):
    (episode,) = run_episodes(ScriptedModel([reply, TURN, ANSWER]), sandbox, [sample(40, 30)], AgentLimits())
    mistake, repaired, _ = episode.turns
    assert (mistake.observation.status, mistake.observation.image_index, mistake.observation.frame) == (status, None, None)
    assert words in mistake.observation.message
    shown = episode.dialogue.segments[2]
    assert shown.role == "observation" and mistake.observation.message in shown.text and not shown.images
    assert (repaired.observation.status, repaired.observation.image_index) == ("ok", 1)
    assert (episode.answer, len(episode.images), len(episode.frames)) == ("F", 2, 2)


def test_what_the_code_printed_is_shown_beside_its_picture(sandbox):
    seen = run([call("print(image.size)\nresult = image.rotate(180)"), ANSWER], sandbox).turns[0].observation
    assert seen.message == "Image 1: 40x30 pixels.\nPrinted: (40, 30)"
    assert seen.stdout == "(40, 30)\n"


CUT = Segment("reply", "<think>I look and look", finished=False)
LONG = Segment("reply", TURN, token_ids=[1] * 50)
ENDINGS = {
    "answer": ([TURN, ANSWER], {}, 2),
    "answer in the last turn": ([TURN, ANSWER], {"max_turns": 2}, 2),
    "max_turns": ([TURN, TURN, TURN], {"max_turns": 2}, 2),
    "max_turns after mistakes": (["<tool_call>{"] * 3, {"max_turns": 3}, 3),
    "length of a reply": ([TURN, CUT], {}, 2),
    "length of the trajectory": ([LONG, LONG, ANSWER], {"max_tokens": 100}, 2),
    "no_action": ([TURN, "Hm.", "Well.", ANSWER], {}, 3),
    "no_action does not count mistakes": (["Hm.", "<tool_call>{</tool_call>", "Hm.", ANSWER], {}, 4),
    "too_many_images": ([TURN, TURN, TURN, ANSWER], {"max_images": 3}, 3),
    "mistakes make no images": ([TURN, call("result = 7"), ANSWER], {"max_images": 2}, 3),
}  # fmt: skip
REASONS = {"length of a reply": "length", "length of the trajectory": "length", "max_turns after mistakes": "max_turns"}


@pytest.mark.parametrize("name", ENDINGS)
def test_an_episode_ends_with(sandbox, name):
    replies, limits, n_turns = ENDINGS[name]
    model = ScriptByQuestion(ask=replies)
    trajectory = run_episode(model, sandbox, sample(40, 30, question="ask"), AgentLimits(**limits))
    reason = REASONS.get(name, name if name in ("max_turns", "no_action", "too_many_images") else "answer")
    assert (trajectory.end_reason, len(trajectory.turns)) == (reason, n_turns)
    assert (trajectory.answer is None) == (reason != "answer")
    assert len(trajectory.images) <= limits.get("max_images", 8)


def test_the_last_call_is_not_run(sandbox):
    trajectory = run([TURN, TURN], sandbox, max_turns=2)
    assert [t.observation is None for t in trajectory.turns] == [False, True]
    assert len(trajectory.images) == 2


def test_an_answer_that_was_cut_counts_but_is_not_well_formed(sandbox):
    model = ScriptByQuestion(ask=[Segment("reply", ANSWER, finished=False)])
    trajectory = run_episode(model, sandbox, sample(question="ask"))
    assert (trajectory.answer, trajectory.turns[0].well_formed) == ("F", False)


FRAMES = {
    "rotate then crop": (["result = image.rotate(90, expand=True)", "result = image.crop((0, 0, 10, 20))"], (20, 0, 40, 10)),
    "crop then crop": (["result = image.crop((10, 5, 30, 25))", "result = image.crop((2, 3, 12, 13))"], (12, 8, 22, 18)),
    "crop then enlarge": (["result = image.crop((10, 5, 30, 25))", "result = image.resize((80, 80))"], (10, 5, 30, 25)),
    "mirror, crop, turn": (
        ["result = ImageOps.mirror(image)", "result = image.crop((0, 0, 10, 30))", "result = image.rotate(180)"],
        (30, 0, 40, 30),
    ),
}  # fmt: skip


@pytest.mark.parametrize("codes, box", FRAMES.values(), ids=FRAMES.keys())
def test_every_picture_maps_to_the_users(sandbox, codes, box):
    trajectory = run([*(call(code, i) for i, code in enumerate(codes)), ANSWER], sandbox)
    frame = trajectory.turns[-2].observation.frame
    assert frame.box_in_source() == pytest.approx(box)


def test_the_frame_finds_the_pixels_of_the_users_picture(sandbox):
    start = sample(42, 36)
    turn, crop = call("result = image.rotate(270, expand=True)"), call("result = image.crop((3, 5, 20, 30))", 1)
    trajectory = run([turn, crop, ANSWER], sandbox, start)
    matrix, result = trajectory.turns[1].observation.frame.matrix, trajectory.images[2]
    for x, y in ((0, 0), (16, 0), (5, 24), (16, 24)):
        source = matrix @ [x + 0.5, y + 0.5, 1]
        assert start.image.getpixel((int(source[0]), int(source[1]))) == result.getpixel((x, y))


def test_a_picture_from_an_unknown_place_has_no_frame_and_neither_has_what_follows(sandbox):
    unknown = "import numpy as np\nresult = Image.fromarray(np.full((20, 20, 3), 7, np.uint8))"
    crop = "result = image.crop((0, 0, 9, 9))"
    trajectory = run([call(unknown), call(crop, 1), call(crop), ANSWER], sandbox)
    assert [t.observation.frame is None for t in trajectory.turns[:3]] == [True, True, False]


@pytest.mark.parametrize(
    "code",
    [
        "image.putpixel((0, 0), (1, 2, 3))\nresult = image.rotate(90)",
        "image.paste((1, 2, 3), (0, 0, 40, 30))\nresult = image",
        "draw.rectangle((0, 0, 30, 20), fill='red')\nresult = image",
        "import numpy as np\na = np.array(image)\na[:] = 0\nresult = Image.fromarray(a)",
        "images[0].paste((1, 2, 3), (0, 0, 40, 30))\nresult = image.rotate(90)",
    ],
)
def test_the_users_picture_is_never_changed(sandbox, code):
    start = sample(40, 30)
    before = start.image.copy()
    trajectory = run([call(code), TURN, ANSWER], sandbox, start)
    assert same(start.image, before) and same(trajectory.images[0], before)
    assert same(trajectory.images[-1], before.transpose(Image.Transpose.ROTATE_90))


def test_a_transparent_result_is_shown_on_white(sandbox):
    trajectory = run([call("result = Image.new('RGBA', (5, 4), (9, 9, 9, 0))"), ANSWER], sandbox)
    assert same(trajectory.images[1], Image.new("RGB", (5, 4), "white"))


def test_a_batch_keeps_its_order_and_stops_asking_those_that_are_done(sandbox):
    model = ScriptByQuestion(direct=[ANSWER], turn=[TURN, ANSWER], twice=[TURN, call("result = image.rotate(180)", 1), ANSWER])
    samples = [sample(40, 30, seed=i, question=q) for i, q in enumerate(("turn", "direct", "twice", "direct"))]
    trajectories = run_batch(model, sandbox, samples)
    assert [t.sample_id for t in trajectories] == ["s0", "s1", "s2", "s3"]
    assert [len(t.turns) for t in trajectories] == [2, 1, 3, 1]
    assert model.batches == [4, 2, 1]
    alone = [run_episode(model, sandbox, s) for s in samples]
    for a, b in zip(trajectories, alone, strict=True):
        assert [t.text for t in a.turns] == [t.text for t in b.turns]
        assert all(map(same, a.images, b.images))


def test_batches_are_of_the_models_size_and_progress_is_told(sandbox):
    model, told = ScriptByQuestion(batch_size=2, ask=[ANSWER]), []
    run_batch(model, sandbox, [sample(seed=i, question="ask") for i in range(5)], on_progress=told.append)
    assert (model.batches, told) == ([2, 2, 1], [2, 4, 5])


def test_a_sample_whose_picture_is_missing_is_the_users_to_fix(sandbox, tmp_path):
    with pytest.raises(UserError, match=r"gone\.png"):
        run([ANSWER], sandbox, sample(image=str(tmp_path / "gone.png")))


def test_without_tools_the_prompt_names_none(sandbox):
    (episode,) = run_episodes(ScriptedModel([ANSWER]), sandbox, [sample()], AgentLimits(tools=False))
    assert TOOL_NAME not in episode.dialogue.segments[0].text


def test_a_trajectory_is_json_whatever_the_model_wrote(sandbox):
    half_pair = '<tool_call>{"name": "code_image_tool", "arguments": {"code": "s = \'\\ud800\'\\nresult = s"}}</tool_call>'
    odd = ["\x00\x1b \ufffd", half_pair, ANSWER]
    trajectory = run(odd, sandbox)
    row = json.dumps(trajectory.to_json(["a.png"]), ensure_ascii=False).encode()
    assert [t["text"] for t in json.loads(row)["turns"]] == odd


def test_the_worker_sandbox_gives_the_same_trajectory_as_the_inline_one(sandbox):
    from codevision_lite.sandbox import Sandbox

    replies = [TURN, call("result = image.crop((0, 0, 10, 20))", 1), call("import subprocess"), ANSWER]
    with Sandbox(mode="worker") as worker:
        a, b = (run(replies, box) for box in (sandbox, worker))
    assert all(map(same, a.images, b.images))
    for left, right in zip(a.observations, b.observations, strict=True):
        assert replace(left, seconds=0.0) == replace(right, seconds=0.0)


def test_pictures_of_the_same_content_in_one_batch_do_not_share_what_happens_to_them(sandbox):
    model = ScriptByQuestion(one=[TURN, ANSWER], two=[call("image.paste((0, 0, 0), (0, 0, 20, 20))\nresult = image"), ANSWER])
    shared = picture(40, 30)
    a, b = run_batch(model, sandbox, [sample(image=shared, question="one"), sample(image=shared, question="two")])
    assert same(a.images[1], shared.transpose(Image.Transpose.ROTATE_90))
    assert np.asarray(b.images[1])[:20, :20].max() == 0


class CountingModel(ScriptByQuestion):
    """Goes on with one dialogue at a time and counts 10 tokens for a reply, 20 for a text and 30 for a picture."""

    def __init__(self, replies):
        super().__init__(ask=replies)
        self.asked = []

    @contextmanager
    def generating(self):
        yield

    def encode(self, segment):
        segment.token_ids = list(range(20 + 30 * len(segment.images)))
        return len(segment.token_ids)

    def add(self, dialogue, max_new_tokens):
        self.encode(dialogue.segments[0])
        self.asked.append(dialogue)

    def advance(self):
        dialogue = self.asked.pop(0)
        (reply,) = self.reply([dialogue], 0)
        return [(dialogue, replace(reply, token_ids=list(range(10))))]

    def drop(self, dialogue):
        pass


def counted(replies, sandbox, **limits):
    (episode,) = run_episodes(CountingModel(replies), sandbox, [sample(40, 30, question="ask")], AgentLimits(**limits))
    return episode


@pytest.mark.parametrize("max_tokens, n_turns, reason", [(111, 2, "answer"), (110, 1, "length"), (171, 2, "answer"), (60, 1, "length")])
def test_an_observation_that_does_not_fit_is_not_appended_and_the_end_says_so(sandbox, max_tokens, n_turns, reason):
    episode = counted([TURN, ANSWER], sandbox, max_tokens=max_tokens)  # 50 + 10, then 50 to see
    assert (episode.end_reason, len(episode.turns), len(episode.images)) == (reason, n_turns, n_turns)
    assert episode.dialogue.n_tokens == (120 if reason == "answer" else 60) <= max_tokens + 10
    assert episode.dialogue.segments[-1].role == "reply"
    assert (episode.turns[0].observation is None) == (reason == "length")


LOOK_AGAIN = call("result = image.rotate(180)")


@pytest.mark.parametrize("last", [ANSWER, TURN, "Hm."])
def test_the_last_turn_is_announced_where_a_final_answer_is_wanted(sandbox, last):
    episode = counted([TURN, "<tool_call>{", last], sandbox, max_turns=3, final_answer=True, max_reply_tokens=10)
    first, second, _ = episode.turns
    assert LAST_TURN not in first.observation.message
    assert second.observation.message.endswith(f"\n{LAST_TURN}") and LAST_TURN in episode.dialogue.segments[-2].text
    assert (episode.end_reason, episode.answer) == (("answer", "F") if last == ANSWER else ("max_turns", None))
    assert episode.turns[-1].observation is None


@pytest.mark.parametrize("last", [ANSWER, TURN])
@pytest.mark.parametrize("limits, reason", [({"max_tokens": 160}, "length"), ({"max_images": 2}, "too_many_images")])
def test_when_room_runs_out_the_model_is_told_and_has_a_final_reply(sandbox, limits, reason, last):
    episode = counted([TURN, LOOK_AGAIN, last], sandbox, final_answer=True, max_reply_tokens=10, **limits)
    shown, unseen, _ = episode.turns
    assert shown.observation.image_index == 1 and len(episode.images) == 2
    assert (unseen.observation.status, unseen.observation.message, unseen.observation.image_index) == ("output", NOT_SHOWN, None)
    assert [op.name for op in unseen.observation.ops] == ["rotate"], "what ran is on record"
    assert (episode.end_reason, episode.answer) == (("answer", "F") if last == ANSWER else (reason, None))
    assert episode.dialogue.n_tokens == 150 <= limits.get("max_tokens", 150)


def test_without_room_even_for_the_last_words_an_episode_ends(sandbox):
    episode = counted([TURN, ANSWER], sandbox, final_answer=True, max_reply_tokens=10, max_tokens=79)
    assert (episode.end_reason, episode.dialogue.n_tokens, len(episode.turns)) == ("length", 60, 1)


@pytest.mark.parametrize("final_answer", [False, True])
def test_no_trajectory_is_longer_than_promised_and_its_record_gives_its_dialogue(sandbox, final_answer):
    replies = {"call": TURN, "error": call("result = 7"), "bad": "<tool_call>{", "none": "Hm.", "answer": ANSWER}
    rng = random.Random(0)
    for max_tokens in range(100, 420, 7):
        script = [replies[rng.choice(list(replies))] for _ in range(8)]
        limits = {"max_turns": rng.randint(1, 7), "max_images": rng.randint(1, 5), "final_answer": final_answer}
        episode = counted(script, sandbox, max_tokens=max_tokens, max_reply_tokens=10, **limits)
        trajectory = episode.trajectory()
        assert episode.dialogue.n_tokens <= max_tokens + (0 if final_answer else 10)
        assert len(episode.turns) <= limits["max_turns"] and len(episode.images) <= max(1, limits["max_images"])
        if final_answer and trajectory.end_reason in ("length", "too_many_images"):
            assert trajectory.turns[-2].observation.message == NOT_SHOWN, "nobody ends there without a last word"
        saved = json.loads(json.dumps(trajectory.to_json([])))  # without its pictures, which keep their numbers
        rebuilt = dialogue_of(sample(40, 30, question="ask"), replace(Trajectory.from_json(saved), images=trajectory.images))
        assert [s.text for s in rebuilt.segments] == [s.text for s in episode.dialogue.segments]


class SlowSandbox:
    """Worker-like: its calls run beside the loop, and take as long as they like."""

    mode = "worker"

    def __init__(self, sandbox, delays):
        self.sandbox, self.delays = sandbox, iter(delays)

    def run(self, *job):
        time.sleep(next(self.delays))
        return self.sandbox.run(*job)


def test_how_long_calls_take_changes_nothing(sandbox):
    script = {"turn": [TURN, ANSWER], "twice": [TURN, LOOK_AGAIN, ANSWER], "direct": [ANSWER]}
    samples = [sample(40, 30, seed=i, question=q) for i, q in enumerate(["turn", "twice", "direct", "twice", "turn"])]
    logs = []
    for delays in ([0.0] * 9, [0.03, 0.0, 0.02, 0.0, 0.0, 0.04, 0.0, 0.01, 0.0]):
        model = ScriptByQuestion(batch_size=3, **script)
        episodes = run_episodes(model, SlowSandbox(sandbox, delays), samples, AgentLimits())
        logs.append((model.batches, [[t.text for t in e.turns] for e in episodes], [e.sample.id for e in episodes]))
    assert logs[0] == logs[1]
    assert logs[0][2] == [s.id for s in samples]


def test_the_next_sample_starts_when_one_ends(sandbox):
    model = ScriptByQuestion(batch_size=2, direct=[ANSWER], turn=[TURN, ANSWER])
    run_batch(model, sandbox, [sample(40, 30, seed=i, question=q) for i, q in enumerate(["turn", "direct", "direct", "direct"])])
    assert model.batches == [2, 2, 1]
