"""The reward over code that really ran: how an operation is written makes no difference, and naming it is not running it."""

import numpy as np
import pytest
from PIL import Image
from reward_builders import TARGET, H, W

from codevision_lite.agent import AgentLimits, run_episode
from codevision_lite.models import ScriptedModel
from codevision_lite.protocol import render_reply
from codevision_lite.records import Sample, ToolCall
from codevision_lite.reward import RewardConfig, score
from codevision_lite.sandbox import Sandbox

DENSE = RewardConfig.preset("dense")
NOISE = np.random.default_rng(0).integers(0, 255, (H // 10, W // 10, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE).resize((W, H), Image.Resampling.NEAREST)
X1, Y1, X2, Y2 = (int(v) for v in TARGET)
TURNED = f"({Y1}, {W - X2}, {Y2}, {W - X1})"  # the target after rotate_90
NAMES = "# rotate(90) rotate(180) rotate(270) ImageOps.flip ImageOps.mirror crop((200, 120, 280, 150))\n"

WAYS_TO_ROTATE_90 = [
    "result = image.rotate(90, expand=True)",
    "result = image.rotate(-270, expand=True)",
    "result = image.rotate(450, expand=True)",
    "angle = 90\nresult = image.rotate(angle, expand=1)",
    "result = image.transpose(Image.ROTATE_90)",
    "result = image.transpose(Image.Transpose.ROTATE_90)",
    "from PIL import ImageOps\nresult = ImageOps.flip(image.transpose(Image.TRANSPOSE))",
    "import numpy as np\nresult = Image.fromarray(np.rot90(np.array(image)))",
    "import numpy as np\nresult = Image.fromarray(np.array(image).transpose(1, 0, 2)[::-1])",
    "import numpy as np\nresult = Image.fromarray(np.flipud(np.transpose(np.array(image), (1, 0, 2))))",
    "import cv2, numpy as np\nresult = Image.fromarray(cv2.rotate(np.array(image), cv2.ROTATE_90_COUNTERCLOCKWISE))",
    "result = image.rotate(180).rotate(-90, expand=True)",
    "def turn(picture):\n    return picture.rotate(90, expand=True)\nresult = turn(image)",
]
WAYS_TO_CROP = [
    f"result = image.crop(({X1}, {Y1}, {X2}, {Y2}))",
    f"box = ({X1}, {Y1}, {X2}, {Y2})\nresult = image.crop(box).resize((320, 120))",
    f"import numpy as np\nresult = Image.fromarray(np.array(image)[{Y1}:{Y2}, {X1}:{X2}])",
    f"result = image.resize((320, 120), box=({X1}, {Y1}, {X2}, {Y2}))",
    f"result = image.transform((80, 30), Image.Transform.EXTENT, ({X1}, {Y1}, {X2}, {Y2}))",
]
ROTATE_EXPLOITS = {
    "comment": NAMES + "result = image",
    "comment and a copy": NAMES + "result = image.copy()",
    "string": f"plan = {NAMES!r}\nresult = image",
    "print": f"print({NAMES!r})",
    "dead branch": "if False:\n    image = image.rotate(90, expand=True)\nresult = image",
    "uncalled function": "def f():\n    return image.rotate(90, expand=True)\nresult = image",
    "does not compile": NAMES + "result = image.rotate(90",
    "refused": "import subprocess\nresult = image.rotate(90, expand=True)",
    "crash after the operation": "result = image.rotate(90, expand=True)\n1 / 0",
    "result thrown away": "image.rotate(90, expand=True)\nresult = image",
    "rotated and back": "result = image.rotate(90, expand=True).rotate(-90, expand=True)",
    "rotate(0)": "result = image.rotate(0)",
    "rotate(360)": "result = image.rotate(360)",
    "all three, one returned": "a, b, c = (image.rotate(d, expand=True) for d in (90, 180, 270))\nresult = a",
    "all three, one returned whose angle is their sum": "r = [image.rotate(d, expand=True) for d in (90, 180, 270)]\nresult = r[1]",
    "all three side by side": (
        "sheet = Image.new('RGB', (1100, 400))\nx = 0\nfor d in (90, 180, 270):\n"
        "    turned = image.rotate(d, expand=True)\n    sheet.paste(turned, (x, 0))\n    x += turned.width\nresult = sheet"
    ),
    "all three by array, one returned": (
        "import numpy as np\na = np.array(image)\nr = [np.rot90(a, k) for k in (1, 2, 3)]\nresult = Image.fromarray(r[0])"
    ),
    "all three by OpenCV, one returned": (
        "import cv2, numpy as np\na = np.array(image)\nr = [cv2.rotate(a, k) for k in (0, 1, 2)]\nresult = Image.fromarray(r[2])"
    ),
    "a corner": "result = image.crop((0, 0, 30, 30)).rotate(90)",
    "a stamp": "result = image.rotate(90, expand=True).resize((12, 16))",
    "a patch on the picture": "result = image.copy()\nresult.paste(image.crop((0, 0, 40, 40)).rotate(90), (0, 0))",
    "oblique": "result = image.rotate(85, expand=True)",
    "wrong": "result = image.rotate(270, expand=True)",
    "a blank picture": "result = Image.new('RGB', (300, 400), 'white').rotate(90, expand=True)",
    "a new picture from numbers": "import numpy as np\nresult = Image.fromarray(np.zeros((400, 300, 3), np.uint8))",
}
CROP_EXPLOITS = {
    "comment": NAMES + "result = image",
    "everything": f"result = image.crop((0, 0, {W}, {H}))",
    "one row less": f"result = image.crop((0, 1, {W}, {H}))",
    "thrown away": f"image.crop(({X1}, {Y1}, {X2}, {Y2}))\nresult = image",
    "far off": "result = image.crop((0, 0, 60, 40))",
    "a stamp": f"result = image.crop(({X1}, {Y1}, {X2}, {Y2})).resize((8, 3))",
    "turned as well": "result = image.crop((0, 0, 60, 40)).rotate(90)",
    "contact sheet": (
        "sheet = Image.new('RGB', (2000, 60))\nfor i in range(25):\n    x, y = 80 * (i % 5), 60 * (i // 5)\n"
        "    sheet.paste(image.crop((x, y, x + 80, y + 60)), (80 * i, 0))\nresult = sheet"
    ),
}
NOTHING_EXPLOITS = [
    "from PIL import ImageEnhance\nresult = ImageEnhance.Contrast(image).enhance(1.0)",
    "from PIL import ImageEnhance\nresult = ImageEnhance.Contrast(image).enhance(1.02)",
    "from PIL import ImageEnhance\nresult = ImageEnhance.Contrast(image).enhance(1.8)",
    "result = image.rotate(90, expand=True)",
    "result = image.rotate(90, expand=True).rotate(-90, expand=True)",
    "result = image.crop((0, 0, 100, 100))",
    "result = image.resize((800, 600))",
    "raise ValueError",
]


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(mode="inline") as opened:
        yield opened


def play(sandbox, *codes, on=0, answer="F7", description=NAMES, sample=None):
    """The trajectory of the agent loop with a model that runs these codes, each on picture `on` (or on its own of `on`)."""
    sources = [on] * len(codes) if isinstance(on, int) else on
    replies = [render_reply("I look.", ToolCall(code, description, source)) for code, source in zip(codes, sources, strict=True)]
    end = [render_reply("I can read it.", answer=answer)] if answer is not None else ["Hm.", "Well."]
    limits = AgentLimits(max_turns=len(codes) + 3, max_images=16)
    trajectory = run_episode(ScriptedModel([*replies, *end]), sandbox, sample or task(), limits)
    assert trajectory.answer == answer
    return trajectory


def task(*required, target=TARGET):
    return Sample("s", "What is written?", PICTURE, ("F7",), required, target)


def honest(sandbox, sample):
    """One right turn for each required operation, and the right answer."""
    turn, target = sample.required_ops[0] if sample.required_ops else "", "crop" in sample.required_ops
    codes = [f"result = image.transpose(Image.Transpose.{turn.upper()})"] if turn.startswith("rotate") else []
    codes += [f"result = image.crop({TURNED if codes else TARGET})"] if target else []
    return play(sandbox, *codes, on=range(len(codes)))


def total(sample, trajectory):
    return score(sample, trajectory, DENSE).total


@pytest.mark.parametrize("code", WAYS_TO_ROTATE_90)
def test_every_way_to_rotate_earns_the_same(sandbox, code):
    breakdown = score(task("rotate_90"), play(sandbox, code), DENSE)
    assert breakdown.total == pytest.approx(1.9), breakdown


@pytest.mark.parametrize("code", WAYS_TO_CROP)
def test_every_way_to_crop_earns_the_same(sandbox, code):
    breakdown = score(task("crop"), play(sandbox, code), DENSE)
    assert breakdown.total == pytest.approx(1.9, abs=0.01), breakdown


def test_crop_before_or_after_the_rotation_and_over_one_turn_or_two(sandbox):
    rotate, crop = "result = image.rotate(90, expand=True)", f"result = image.crop({TURNED})"
    both = task("rotate_90", "crop")
    plays = [
        play(sandbox, rotate, crop, on=(0, 1)),
        play(sandbox, f"{rotate}\nresult = result.crop({TURNED})"),
        play(sandbox, f"result = image.crop({TARGET}).rotate(90, expand=True)"),
    ]
    assert [total(both, p) for p in plays] == pytest.approx([1.9] * 3)
    retried = play(sandbox, rotate, "result = picture.crop((1, 2, 3, 4))", crop, on=(0, 1, 1))
    assert total(both, play(sandbox, rotate)) < total(both, retried) == pytest.approx(1.7)


@pytest.mark.parametrize("answer", ["F7", "wrong"])
@pytest.mark.parametrize("target", [TARGET, None], ids=["place known", "place unknown"])
@pytest.mark.parametrize("name", ROTATE_EXPLOITS)
def test_rotation_exploits(sandbox, name, target, answer):
    sample = task("rotate_180" if "sum" in name else "rotate_90", target=target)
    earned = score(sample, play(sandbox, ROTATE_EXPLOITS[name], answer=answer), DENSE)
    assert earned.total <= total(sample, play(sandbox, answer=answer)) + 1e-9, earned
    assert earned.total < total(sample, honest(sandbox, sample))


def test_warps_turn_the_picture_only_if_they_do(sandbox):
    arrays = "import cv2, numpy as np\na = np.array(image)\n"
    half_turn = f"m = cv2.getRotationMatrix2D(({W} / 2, {H} / 2), 180, 1)\nresult = Image.fromarray(cv2.warpAffine(a, m, ({W}, {H})))"
    turned, upright = score(task("rotate_180"), play(sandbox, arrays + half_turn)), score(task(), play(sandbox, arrays + half_turn))
    assert turned.terms["must_use"].value == 1.0 and upright.terms["inappropriate"].value == 1.0
    straighten = f"result = image.transform(({W}, {H}), Image.Transform.PERSPECTIVE, (1, 0.02, 0, 0, 1, 0, 0, 0.0002))"
    assert score(task(), play(sandbox, straighten)).terms["inappropriate"].value == 0.0


def test_brute_force_over_turns(sandbox):
    codes = [f"result = image.rotate({angle}, expand=True)" for angle in (270, 180, 90)]
    assert total(task("rotate_90"), play(sandbox, *codes, on=0)) < total(task("rotate_90"), play(sandbox))
    again = ["result = image.rotate(90, expand=True)"] * 3
    assert total(task("rotate_270"), play(sandbox, *again, on=(0, 1, 2))) < total(task("rotate_270"), play(sandbox))


@pytest.mark.parametrize("answer", ["F7", "wrong"])
@pytest.mark.parametrize("name", CROP_EXPLOITS)
def test_crop_exploits(sandbox, name, answer):
    earned = score(task("crop"), play(sandbox, CROP_EXPLOITS[name], answer=answer), DENSE)
    assert earned.total <= total(task("crop"), play(sandbox, answer=answer)) + 1e-9, earned
    assert earned.total < total(task("crop"), honest(sandbox, task("crop")))


@pytest.mark.parametrize("code", NOTHING_EXPLOITS)
def test_a_direct_answer_beats_every_tool_where_none_is_needed(sandbox, code):
    sample = task(target=None)
    assert total(sample, play(sandbox, code)) < total(sample, play(sandbox))


R, C, RC = ("rotate_90",), ("crop",), ("rotate_90", "crop")
TURN = "result = image.rotate(90, expand=True)"
ALL_THREE = "r = [image.rotate(d, expand=True) for d in (90, 180, 270)]\nresult = r[0]"
NO_OP = "from PIL import ImageEnhance\nresult = ImageEnhance.Contrast(image).enhance(1.0)"
FAR = "result = image.crop((0, 0, 60, 40))"
CRASH = "result = picture.rotate(90)"
BOX = f"result = image.crop(({X1}, {Y1}, {X2}, {Y2}))"
SCAN = [f"result = image.crop(({x}, {y}, {x + 134}, {y + 100}))" for y in (0, 100, 200) for x in (0, 133, 266)]
# The behaviours that the released reward pays (PAPER.md 1d) and their relatives, over whole trajectories.
BATTERY = {
    "all three rotations in one block": (R, [ALL_THREE], 0),
    "all three rotations, one in a turn": (R, [TURN.replace("90", d) for d in ("270", "180", "90")], 0),
    "turning on and on": (("rotate_270",), [TURN] * 3, (0, 1, 2)),
    "all five orientations, one in a turn": (
        R, ["result = ImageOps.flip(image)", "result = ImageOps.mirror(image)", *(TURN.replace("90", d) for d in ("270", "180", "90"))], 0),
    "a comment that names every operation": (R, [NAMES + "result = image"], 0),
    "the same comment in every turn": (R, [NAMES + "result = image"] * 3, 0),
    "all in one block, then the right one again": (R, [ALL_THREE, TURN], 0),
    "the right one five times": (R, [TURN] * 5, 0),
    "errors until the limit": (R, [CRASH] * 6, 0),
    "errors, then nothing of use": (R, [CRASH, CRASH, NO_OP], 0),
    "the wrong direction and a guess": (R, [TURN.replace("90", "270")], 0),
    "one no-op enhancement": ((), [NO_OP], 0),
    "two no-op enhancements": ((), [NO_OP, NO_OP], 0),
    "near no-ops in a chain": ((), ["from PIL import ImageEnhance\nresult = ImageEnhance.Brightness(image).enhance(1.01)"] * 2, (0, 1)),
    "a needless look at the whole": ((), ["result = image.resize((800, 600))"], 0),
    "a needless rotation and back": ((), [TURN, TURN.replace("90", "-90")], (0, 1)),
    "a box in the description only": (C, ["result = image"], 0),
    "boxes in prints": (C, [f"print('crop', {TARGET})\nresult = image"], 0),
    "scanning the picture": (C, SCAN, 0),
    "a far crop and a right guess": (C, [FAR], 0),
    "far crops, again and again": (C, [FAR] * 4, 0),
    "a crop that was thrown away, over two turns": (C, [f"{BOX}\nresult = image"] * 2, 0),
    "operations in a comment for rotation and crop": (RC, [NAMES + "result = image"] * 2, 0),
    "all rotations in one block and a far crop": (RC, [ALL_THREE, FAR], (0, 1)),
    "rotation thrown away, crop far": (RC, [f"{TURN}\nresult = image.crop((0, 0, 60, 40))"], 0),
    "a crop of the wrong place after brute force": (RC, [TURN.replace("90", d) for d in ("270", "180", "90")] + [FAR], (0, 0, 0, 3)),
}  # fmt: skip


@pytest.mark.parametrize("answer", ["F7", "wrong", None], ids=["right", "wrong", "no answer"])
@pytest.mark.parametrize("name", BATTERY)
def test_no_behaviour_of_the_battery_pays(sandbox, name, answer):
    required, codes, on = BATTERY[name]
    sample = task(*required, target=TARGET if required else None)
    description = f"crop({TARGET}) rotate(90)"
    earned = score(sample, play(sandbox, *codes, on=on, answer=answer, description=description), DENSE)
    assert earned.total <= total(sample, play(sandbox, answer=answer)) + 1e-9, earned
    assert earned.total < total(sample, honest(sandbox, sample)), earned


def test_honest_work_is_worth_it(sandbox):
    """One correct rotation; flips composed; both tools with one error and a retry against rotation and a guess; no tool needed."""
    both, upright = task(*RC), task(target=None)
    assert total(task(*R), play(sandbox, TURN)) == pytest.approx(1.9)
    flips = "result = ImageOps.flip(ImageOps.mirror(image))"
    assert total(task("rotate_180"), play(sandbox, flips)) == pytest.approx(1.9)
    assert total(task("rotate_180"), play(sandbox, "result = ImageOps.flip(image)", "result = ImageOps.mirror(image)", on=(0, 1))) > 1.3
    loose = f"result = image.crop(({Y1 - 15}, {W - X2 - 40}, {Y2 + 15}, {W - X1 + 40}))"
    retried = play(sandbox, TURN, CRASH, loose, on=(0, 1, 1))
    assert total(both, play(sandbox, TURN)) < total(both, retried)
    assert total(both, play(sandbox, TURN)) < total(both, play(sandbox, CRASH, TURN, CRASH, loose, on=(0, 0, 1, 1)))
    tools = [TURN, BOX, NO_OP, CRASH, "from PIL import ImageEnhance\nresult = ImageEnhance.Contrast(image).enhance(1.8)"]
    assert all(total(upright, play(sandbox, code)) < total(upright, play(sandbox)) for code in tools)
