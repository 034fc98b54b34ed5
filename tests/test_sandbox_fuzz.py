"""Random programs over the facades: whatever they do comes back as a Run, within the limits, and claims no wrong geometry.

The programs come from fixed seeds (derandomize). Every few programs a probe looks for what they may have left behind: random
generators, pictures, modules and types that changed, descriptors, processes.
"""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from codevision_lite.sandbox import Limits, Run, Sandbox
from codevision_lite.sandbox.catalogue import MODULES
from codevision_lite.sandbox.facade import ATTRIBUTES, Fn, SafeType

PROGRAMS = int(os.environ.get("SANDBOX_FUZZ", "20000"))
PROBE_EVERY = 20  # programs
VALUES = (
    "0 1 -1 2 3 0.5 90 255 1e9 10**20 -10**9 None True '' 'RGB' 'L' 'a' b'x' [] () {} [1,2,3] (10,20,110,120) (64,48) image arr gray "
    "lst np.uint8 Image cv2 lambda:0 (lambda*a:a) slice(1,5) range(5) print int K() K mask f32 float('nan') [[1,2],[3,4]] [image] "
    "[arr,arr] Ellipsis 1j np.int64(10**9) np.float32(2) iter(lst) {1:2}.items() ValueError('a') E('b') C.A N(1) N pathlib.Path('a.png') "
    "io.BytesIO(b'ab') random.Random(1) types.SimpleNamespace(a=1) re.compile('a') np.s_[1:3] ImageFilter.BLUR gen() collections.deque([1])"
).split()
IMPORTED = (
    "PIL numpy cv2 math itertools collections json re random io os base64 enum contextlib dataclasses pathlib functools heapq statistics "
    "types hashlib pprint operator bisect copy string textwrap colorsys datetime uuid traceback logging sys typing warnings abc fractions"
).split()
KEYWORDS = "axis dtype size fill key n m f out dst mode shape src a name box box_ k initial kind default factory repl start file".split()
SETUP = (
    f"import {', '.join(IMPORTED)}\n"
    "class K:\n    def load(self): return self\n    shape = (1, 2)\n"
    "class E(Exception):\n    pass\n"
    "class C(enum.Enum):\n    A = 1\n"
    "@dataclasses.dataclass\nclass N:\n    a: object\n"
    "def gen():\n    yield 1\n    yield image\n"
    "arr = np.array(image)\ngray = arr[..., 0].copy()\nlst = [3, 1, 2]\n"
    "mask = gray > 100\nf32 = np.float32([[1, 0, 5], [0, 1, 6]])\nx = y = z = image\n"
)
FUNCTIONS = sorted(
    f"{name}.{member}" for name, module in MODULES.items() for member, value in module.members.items()
    if isinstance(value, Fn | SafeType) and name.split(".")[0] in IMPORTED
)  # fmt: skip
METHODS = sorted({n for table in ATTRIBUTES.values() for n in table if not n.startswith("_")})
OPERATORS = "+ - * / // % ** @ & | ^ << >> == < in".split()
NAMES = "x y z".split()

value = st.sampled_from(VALUES + NAMES)
argument = st.one_of(value, value, value, st.builds("{}={}".format, st.sampled_from(KEYWORDS), value))


def in_order(items):
    """Positional arguments first, every keyword once."""
    named = {i.partition("=")[0]: i for i in items if i.partition("=")[0] in KEYWORDS}
    return ", ".join([i for i in items if i.partition("=")[0] not in KEYWORDS] + list(named.values()))


USUAL = (
    "", "2", "30", "(3, 3)", "(32, 24)", "(5, 5, 40, 30)", "0.5", "cv2.COLOR_RGB2GRAY", "axis=0", "arr[0]", "'L'", "0, 255", "100, 200",
    "(3, 3), 0", "np.ones((3, 3), np.uint8)", "None, 2, 2", "f32, (64, 48)", "100, 255, 0", "-1, f32",
    "5, 75, 75", "(10, 10), 5, (255, 0, 0)",
)  # fmt: skip
arguments = st.one_of(st.sampled_from(USUAL), st.lists(argument, max_size=4).map(in_order))
OF_PICTURES = sorted(n for n in ATTRIBUTES[Image.Image] if not n.startswith("_"))
OF_ARRAYS = sorted(n for n in ATTRIBUTES[np.ndarray] if not n.startswith("_"))
ON_ARRAYS = [f for f in FUNCTIONS if f.startswith(("cv2.", "numpy."))]
ON_PICTURES = [f for f in FUNCTIONS if f.startswith(("PIL.ImageOps", "PIL.ImageChops", "PIL.ImageEnhance"))]
picture = st.sampled_from(["image", "x", "y", "image.convert('L')", "image.convert('RGBA')", "image.crop((5, 5, 40, 30))"])
ARRAYS = "arr|gray|mask|arr[::-1]|gray[5:9]|arr.astype(float)|np.zeros((3, 4))|np.int32([[1, 2], [5, 6]])".split("|")
array = st.sampled_from(ARRAYS)
expression = st.one_of(
    st.builds("({}).{}({})".format, picture, st.sampled_from(OF_PICTURES), arguments),
    st.builds("({}).{}({})".format, array, st.sampled_from(OF_ARRAYS), arguments),
    st.builds("{}({}, {})".format, st.sampled_from(ON_ARRAYS), array, arguments),
    st.builds("{}({}, {}, {})".format, st.sampled_from(ON_ARRAYS), array, array, arguments),
    st.builds("{}({}, {})".format, st.sampled_from(ON_PICTURES), picture, arguments),
    st.builds("{}({})".format, st.sampled_from(FUNCTIONS).map(lambda f: f.replace("PIL.", "PIL.", 1)), arguments),
    st.builds("({}).{}({})".format, value, st.sampled_from(METHODS), arguments),
    st.builds("({}).{}".format, value, st.sampled_from(METHODS)),
    st.builds("({}) {} ({})".format, value, st.sampled_from(OPERATORS), value),
    st.builds("({})[{}]".format, value, value),
    st.builds("f'{{{}}}'".format, st.sampled_from(NAMES)),
    st.builds("[*({})]".format, value),
)
statement = st.one_of(
    st.builds("{} = {}".format, st.sampled_from([*NAMES, "result", "arr[5:9, 5:9]", "arr[1, 2]", "lst[0]", "image.size"]), expression),
    st.builds("{} {}= {}".format, st.sampled_from([*NAMES, "arr", "lst"]), st.sampled_from(OPERATORS[:8]), value),
    st.builds("for y in {}:\n    x = y".format, value),
)
program = st.lists(statement, min_size=1, max_size=5).map(
    lambda lines: SETUP + "".join("try:\n    " + line.replace("\n", "\n    ") + "\nexcept Exception as e: z = e\n" for line in lines)
)


@pytest.fixture(scope="module")
def worker():
    with Sandbox(limits=Limits(wall_s=1.0, memory_mb=512)) as made:
        yield made


@pytest.fixture(scope="module")
def watch(worker):
    return Watch(worker)


IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8))


PROBE = """
import hashlib
print(random.random(), np.random.rand(), np.random.default_rng().random(), hashlib.md5(image.tobytes()).hexdigest())
print(cv2.kmeans(np.float32(np.arange(60) % 7).reshape(-1, 1), 3, None, (1, 5, 1.0), 1, cv2.KMEANS_RANDOM_CENTERS)[2].tolist())
print(np.pi, math.pi, json.dumps([1.5]), np.array([1.5]), image.size, image.mode, len(images), isinstance(3, int))
result = image.filter(ImageFilter.BLUR)
"""


class Watch:
    """Compares what a fixed program gives, the descriptors and the processes with what they were before."""

    def __init__(self, sandbox):
        self.sandbox, self.count = sandbox, 0
        self.before = self.look()

    def look(self):
        run = self.sandbox.run(PROBE, [IMAGE])
        assert run.status == "ok", run.message
        zygote = self.sandbox._pool.zygote.process.pid
        with open(f"/proc/{zygote}/task/{zygote}/children") as file:
            workers = len(file.read().split())
        return run.stdout, run.result.tobytes(), len(os.listdir("/proc/self/fd")), workers

    def step(self):
        self.count += 1
        if self.count % PROBE_EVERY == 0:
            assert self.look() == self.before


def check(sandbox, watch, code):
    run = sandbox.run(code, [IMAGE])
    watch.step()
    assert isinstance(run, Run)
    assert run.status in ("ok", "refused", "error", "timeout", "memory", "output")
    assert not run.message.startswith(("Crash", "The sandbox's reply")), run.message
    assert "SystemError" not in run.message
    if run.frame is not None:
        assert run.result is not None
        x1, y1, x2, y2 = run.frame.box_in_source()
        assert min(x1, y1) >= -1e-6
        assert x2 <= IMAGE.width + 1e-6
        assert y2 <= IMAGE.height + 1e-6


QUIET = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@QUIET
@given(code=program)
def test_random_programs_stay_inside(worker, watch, code):
    check(worker, watch, code)


@pytest.mark.slow
@settings(QUIET, max_examples=PROGRAMS)
@given(code=program)
def test_many_random_programs_stay_inside(worker, watch, code):
    check(worker, watch, code)
