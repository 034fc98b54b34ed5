"""The reward over code that really ran: how an operation is written makes no difference, and naming it is not running it."""

import numpy as np
import pytest
from PIL import Image
from reward_builders import TARGET, TURN, H, W

from codevision_lite.geometry import compose
from codevision_lite.records import Frame, Observation, Sample, ToolCall, Trajectory, Turn
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


def play(sandbox, *codes, on=-1, answer="F7"):
    """A trajectory that runs each code on the latest picture (`on` = 0: always on the user's), as the agent does."""
    images, frames, turns = [PICTURE], [Frame.identity(W, H)], []
    for code in codes:
        source = on % len(images)
        run = sandbox.run(code, images, source)
        ok = run.status == "ok"
        frame = compose(run.frame, frames) if ok else None
        seen = Observation(run.status, run.message, len(images) if ok else None, source, tuple(run.ops), frame)
        if ok:
            images.append(run.result)
            frames.append(frame)
        turns.append(Turn(code, call=ToolCall(code, NAMES), observation=seen))
    turns.append(Turn(TURN.text, answer=answer))
    return Trajectory("s", tuple(turns), tuple(images), answer, "answer")


def task(*required, target=TARGET):
    return Sample("s", "What is written?", PICTURE, ("F7",), required, target)


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
        play(sandbox, rotate, crop),
        play(sandbox, f"{rotate}\nresult = result.crop({TURNED})"),
        play(sandbox, f"result = image.crop({TARGET}).rotate(90, expand=True)"),
    ]
    assert [total(both, p) for p in plays] == pytest.approx([1.9] * 3)
    retried = play(sandbox, rotate, "result = picture.crop((1, 2, 3, 4))", crop)
    assert total(both, play(sandbox, rotate)) < total(both, retried) == pytest.approx(1.7)


@pytest.mark.parametrize("answer", ["F7", "wrong"])
@pytest.mark.parametrize("target", [TARGET, None], ids=["place known", "place unknown"])
@pytest.mark.parametrize("name", ROTATE_EXPLOITS)
def test_rotation_exploits(sandbox, name, target, answer):
    sample = task("rotate_180" if "sum" in name else "rotate_90", target=target)
    earned = score(sample, play(sandbox, ROTATE_EXPLOITS[name], answer=answer), DENSE)
    assert earned.total <= total(sample, play(sandbox, answer=answer)) + 1e-9, earned


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
    assert total(task("rotate_270"), play(sandbox, *again)) < total(task("rotate_270"), play(sandbox))


@pytest.mark.parametrize("answer", ["F7", "wrong"])
@pytest.mark.parametrize("name", CROP_EXPLOITS)
def test_crop_exploits(sandbox, name, answer):
    earned = score(task("crop"), play(sandbox, CROP_EXPLOITS[name], answer=answer), DENSE)
    assert earned.total <= total(task("crop"), play(sandbox, answer=answer)) + 1e-9, earned


@pytest.mark.parametrize("code", NOTHING_EXPLOITS)
def test_a_direct_answer_beats_every_tool_where_none_is_needed(sandbox, code):
    sample = task(target=None)
    assert total(sample, play(sandbox, code)) < total(sample, play(sandbox))
