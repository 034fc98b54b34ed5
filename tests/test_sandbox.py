"""The sandbox's contract, in both modes: results, statuses, messages, limits, names, virtual files, the list of operations."""

import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from codevision_lite.sandbox import Limits, Sandbox

LIMITS = Limits(wall_s=0.5)


@pytest.fixture(scope="module", params=["inline", "worker"])
def sandbox(request):
    with Sandbox(mode=request.param, limits=LIMITS) as made:
        yield made


@pytest.fixture(scope="module")
def image():
    small = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC)


def test_crop_gives_picture_message_ops_and_frame(sandbox, image):
    run = sandbox.run("result = image.crop((100, 50, 300, 200))", [image])
    assert (run.status, run.result.size, run.message) == ("ok", (200, 150), "Image: 200x150 pixels.")
    assert [(op.name, op.args) for op in run.ops] == [("crop", {"box": [100, 50, 300, 200]})]
    assert run.frame.matrix.tolist() == [[1, 0, 100], [0, 1, 50], [0, 0, 1]]
    assert run.frame.box_in_source() == (100, 50, 300, 200)
    assert np.array_equal(np.asarray(run.result), np.asarray(image.crop((100, 50, 300, 200))))


@pytest.mark.parametrize("name", ["result", "output", "processed_image", "img", "image"])
def test_result_names(sandbox, image, name):
    assert sandbox.run(f"{name} = image.rotate(90, expand=True)", [image]).result.size == (480, 640)


def test_last_expression_is_the_result(sandbox, image):
    assert sandbox.run("image.crop((0, 0, 30, 40))", [image]).result.size == (30, 40)
    assert sandbox.run("x = np.array(image)[:50, :60]\nx", [image]).result.size == (60, 50)


def test_input_pictures_are_never_changed(sandbox, image):
    before = image.tobytes()
    code = "draw.rectangle((0, 0, 600, 400), fill='red')\nimg.paste((0, 0, 0), (0, 0, 99, 99))\nimages[0].putpixel((5, 5), (1, 2, 3))"
    sandbox.run(code + "\nimage.load()[9, 9] = (0, 0, 0)\nresult = image", [image])
    assert image.tobytes() == before


def test_image_index_chooses_the_picture(sandbox, image):
    other = Image.new("RGB", (50, 40), "red")
    run = sandbox.run("result = image.crop((0, 0, 20, 20))\nprint(image_index, len(images))", [image, other], image_index=1)
    assert run.result.getpixel((0, 0)) == (255, 0, 0)
    assert (run.frame.pieces[0].source, run.stdout) == (1, "1 2\n")


def test_pieces_of_two_pictures_name_their_sources(sandbox, image):
    code = "result = Image.new('RGB', (200, 50))\nfor i in (0, 1):\n    result.paste(images[i].crop((0, 0, 100, 50)), (100 * i, 0))"
    run = sandbox.run(code, [image, image.rotate(180)])
    assert [(p.source, p.polygon[0]) for p in run.frame.pieces] == [(0, (0, 0)), (1, (100, 0))]


def test_unchanged_result_says_so(sandbox, image):
    for code in (
        "result = image",
        "result = ImageEnhance.Contrast(image).enhance(1.0)",
        "result = image.rotate(90).rotate(-90).rotate(360)",
    ):
        run = sandbox.run(code, [image.resize((300, 300))])
        assert run.status == "error", code
        assert "same as the input" in run.message


def test_unassigned_result_names_the_picture_that_was_made(sandbox, image):
    assert "`result`" in sandbox.run("x = 1", [image]).message
    run = sandbox.run("patch = image.crop((0, 0, 10, 10))\nprint(patch.size)", [image])
    assert run.status == "error"
    assert "result = patch" in run.message
    assert "(10, 10)" in run.message


def test_enhance_reports_its_change(sandbox, image):
    ops = sandbox.run("a = ImageEnhance.Contrast(image).enhance(1.0)\nresult = ImageEnhance.Brightness(a).enhance(1.5)", [image]).ops
    assert [op.name for op in ops] == ["enhance.contrast", "enhance.brightness"]
    assert ops[0].change == 0.0
    assert 0.05 < ops[1].change < 0.5


def test_only_operations_that_ran_are_listed(sandbox, image):
    code = "if False:\n    image = image.rotate(90)\ntry:\n    image.crop((5, 5, 1, 1))\nexcept ValueError:\n    pass\n"
    code += "result = ImageOps.flip(image)"
    assert [(op.name, op.args) for op in sandbox.run(code, [image]).ops] == [("flip", {"direction": "vertical"})]


MESSAGES = [  # code, status, what the message must hold
    ("result = image.crop((700, 0, 800, 10))", "error", ["line 1", "image.crop((700", "640x480", "ValueError"]),
    ("x = 1\nimport os\nos.system('ls')", "refused", ["line 3", "os.system('ls')"]),
    ("import requests", "refused", ["requests", "Allowed: PIL, numpy"]),
    ("result = image.crop((1, 2, 3, 4)", "error", ["SyntaxError", "line 1", "never closed"]),
    ("x = undefined_thing", "error", ["NameError", "undefined_thing", "Available: image"]),
    ("x = image.__class__", "refused", ["line 1", "__class__"]),
    ("open('a.txt')", "refused", ["open()", "`image`"]),
    ("x = [1]\ny = x[5]", "error", ["IndexError", "line 2", "y = x[5]"]),
    ("result = 5", "error", ["`result` is a int", "PIL image"]),
    ("while True: pass", "timeout", ["line 1", "0.5 s"]),
    ("result = np.zeros((10**5, 10**5))", "memory", ["80,000 MB"]),
    ("result = image.resize((20000, 2))", "output", ["narrow"]),
    ("raise ValueError('z' * 10**6)", "error", ["ValueError: raise"[:10]]),
    ("a = np.zeros(3)\nimport tempfile", "refused", ["line 2"]),
    ("re.sub('a', lambda m: 'b' * 10**6, 'a' * 1000)", "refused", ["10,000,000 characters"]),
    ("cv2.flip(image, 1)", "error", ["np.array(image)"]),
    ("result = Image.open('/tmp/a/b.txt').foo", "error", ["foo"]),
]


@pytest.mark.parametrize(("code", "status", "parts"), MESSAGES)
def test_messages_say_what_where_and_what_instead(sandbox, image, code, status, parts):
    run = sandbox.run(code, [image])
    assert run.status == status
    assert all(part in run.message for part in parts), run.message
    assert len(run.message) <= LIMITS.message_chars
    assert "/usr" not in run.message
    assert "codevision_lite" not in run.message
    assert "Traceback" not in run.message


def test_python_that_stock_restrictedpython_refuses(sandbox, image):
    code = """
from typing import List
count: int = 0
a = [1, 2, 3]
a[1] += 5
class P:
    def __init__(self, x): self.x = x
    @property
    def double(self): return 2 * self.x
class Q(P):
    def __init__(self, x):
        super().__init__(x + 1)
p = Q(1)
p.x += 10
def outer(*args, k=2, **kw):
    n = 0
    def inner():
        nonlocal n
        n += k
        return n
    return inner() + inner() + sum(args) + len(kw)
first, *_rest = a
_private = {**{'k': 1}, 'l': [*a, *range(2)]}
print(a, p.double, outer(1, 2, z=3), first, _rest, f"{3.14159:>8.2f}|{'x'!r}", _private, (lambda x, /, y=1: x + y)(1))
if __name__ == '__main__':
    print([x for x in a if (y := x) > 1], {k: v for k, v in zip('ab', a)}, 1 < 2 < 3, '%05.1f' % 2.5, '{0[1]}'.format(a))
"""
    run = sandbox.run(code, [image])
    assert run.stdout == (
        "[1, 7, 3] 24 10 1 [7, 3] " + "    3.14|'x' {'k': 1, 'l': [1, 7, 3, 0, 1]} 2\n[7, 3] {'a': 1, 'b': 7} True 002.5 7\n"
    ), run.message


def test_saved_and_shown_pictures_are_results(sandbox, image):
    assert sandbox.run("image.crop((0, 0, 50, 60)).save('/tmp/out.png')", [image]).result.size == (50, 60)
    assert sandbox.run("plt.imshow(image.crop((0, 0, 50, 60)))\nplt.show()", [image]).result.size == (50, 60)
    code = "image.crop((0, 0, 50, 60)).save('x.png')\nresult = Image.open('x.png').rotate(90, expand=True)"
    assert sandbox.run(code, [image]).frame.box_in_source() == (0, 0, 50, 60)


def test_several_results_come_side_by_side(sandbox, image):
    run = sandbox.run("result = [image.crop((0, 0, 50, 60)), image.crop((300, 300, 370, 340))]", [image])
    assert run.result.size == (120, 60)
    assert len(run.frame.pieces) == 2
    assert "2 images" in run.message


def test_stdout_is_bounded_and_part_of_the_message(sandbox, image):
    run = sandbox.run("print('x' * 100_000)\nresult = image.crop((0, 0, 9, 9))", [image])
    assert run.status == "ok"
    assert len(run.stdout) < LIMITS.stdout_chars + 100
    assert "dropped" in run.stdout
    assert sandbox.run("print('hello')\nresult = image.crop((0, 0, 9, 9))", [image]).message == "Image: 9x9 pixels.\nPrinted:\nhello"


def test_runs_do_not_see_each_other(sandbox, image):
    sandbox.run("x = 5\ndef crop(): pass\nnp.random.seed(3)", [image])
    assert "NameError" in sandbox.run("print(x)", [image]).message
    first = sandbox.run("print(np.random.rand(), random.random())", [image]).stdout
    assert sandbox.run("print(np.random.rand(), random.random())", [image]).stdout == first


def test_the_process_generators_are_not_touched(image):
    with Sandbox("inline") as inline:
        np.random.seed(1)
        inline.run("np.random.seed(5)\nx = np.random.rand(10)\nrandom.seed(2)", [image])
        assert np.random.rand() == pytest.approx(0.417022004702574)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "LA", "I;16", "F", "HSV"])
def test_pictures_of_any_mode(sandbox, mode):
    picture = Image.new("RGB", (40, 30), (200, 30, 60)).convert("L").convert(mode) if mode in ("LA", "I;16") else None
    picture = picture or Image.new("RGB", (40, 30), (200, 30, 60)).convert(mode)
    run = sandbox.run("result = image.crop((0, 0, 20, 10))", [picture])
    assert (run.status, run.result.size) == ("ok", (20, 10)), run.message
    assert run.result.mode in ("RGB", "L", "RGBA")


def test_code_length_limit(sandbox, image):
    assert sandbox.run("x = 1\n" * 20_000, [image]).status == "refused"


def test_image_index_outside_raises(sandbox, image):
    with pytest.raises(IndexError, match="outside the 1 images"):
        sandbox.run("x = 1", [image], image_index=1)


def test_limits_must_be_positive():
    with pytest.raises(ValueError, match="wall_s"):
        Limits(wall_s=0)
    with pytest.raises(ValueError, match="mode"):
        Sandbox(mode="docker")


def test_import_is_light():
    start = time.perf_counter()
    code = "import sys, codevision_lite.sandbox; assert not {'torch', 'cv2', 'RestrictedPython'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert time.perf_counter() - start < 1.5
