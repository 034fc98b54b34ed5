"""Random programs over the facades: whatever they do comes back as a Run, within the limits, and claims no wrong geometry."""

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
VALUES = (
    "0 1 -1 2 3 0.5 90 255 1e9 10**20 -10**9 None True '' 'RGB' 'L' 'a' b'x' [] () {} [1,2,3] (10,20,110,120) (64,48) image arr gray "
    "lst np.uint8 "
    "Image cv2 lambda:0 (lambda*a:a) slice(1,5) range(5) print int K() K mask f32 float('nan') [[1,2],[3,4]] [image] [arr,arr] Ellipsis 1j"
).split()
SETUP = (
    "class K:\n    def load(self): return self\n    shape = (1, 2)\narr = np.array(image)\ngray = arr[..., 0].copy()\nlst = [3, 1, 2]\n"
    "mask = gray > 100\nf32 = np.float32([[1, 0, 5], [0, 1, 6]])\nx = y = z = image\n"
)
FUNCTIONS = sorted(
    f"{name}.{member}" for name, module in MODULES.items() for member, value in module.members.items()
    if isinstance(value, Fn | SafeType) and name.split(".")[0] in ("PIL", "numpy", "cv2", "math", "itertools", "collections", "json", "re")
)  # fmt: skip
METHODS = sorted({n for table in ATTRIBUTES.values() for n in table if not n.startswith("_")})
OPERATORS = "+ - * / // % ** @ & | ^ << >> == < in".split()
NAMES = "x y z".split()

value = st.sampled_from(VALUES + NAMES)
arguments = st.lists(value, max_size=4).map(", ".join)
expression = st.one_of(
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


IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8))


def check(sandbox, code):
    run = sandbox.run(code, [IMAGE])
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
def test_random_programs_stay_inside(worker, code):
    check(worker, code)


@pytest.mark.slow
@settings(QUIET, max_examples=PROGRAMS)
@given(code=program)
def test_many_random_programs_stay_inside(worker, code):
    check(worker, code)
