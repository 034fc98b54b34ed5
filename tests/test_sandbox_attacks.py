"""Hostile code: nothing outside is read, written, reached or named; time, memory and output stay within limits; the next call works.

data/attacks.json is the general corpus; data/attacks_policy.json was written by reading this policy.
"""

import json
import os
import socket
import time
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest
from PIL import Image

from codevision_lite.sandbox import Limits, Sandbox
from codevision_lite.sandbox.catalogue import MODULES
from codevision_lite.sandbox.facade import ATTRIBUTES, Fn, Meth, SafeType

DATA = Path(__file__).parent / "data"
ATTACKS = json.loads((DATA / "attacks.json").read_text())
POLICY = json.loads((DATA / "attacks_policy.json").read_text())
CANARY = Path("/tmp/exec_canary")  # the corpus names it
SECRET = "TOPSECRET-42"
PORT = 18923  # the corpus names it
GRACE_S = 3.0  # inline, a native call under way ends first: some 100 MB on a machine that is busy otherwise
MEMORY_BYTES = 1_600_000_000


@pytest.fixture(scope="module")
def canary():
    CANARY.mkdir(exist_ok=True)
    for old in CANARY.iterdir():
        old.unlink()
    (CANARY / "secret.txt").write_text(SECRET + "\n")
    (CANARY / "secret.yml").write_text(f'%YAML:1.0\n---\nk: "{SECRET}"\n')
    Image.new("RGB", (123, 45), "red").save(CANARY / "secret.png")
    yield sorted(os.listdir(CANARY))
    for made in CANARY.iterdir():
        made.unlink()
    CANARY.rmdir()


@pytest.fixture(scope="module")
def listener():
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(("127.0.0.1", PORT))
    except OSError:
        pytest.skip(f"port {PORT} is taken")
    server.listen(8)
    server.setblocking(False)
    yield server
    server.close()


@pytest.fixture(scope="module")
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def worker():
    with Sandbox(mode="worker", limits=Limits(wall_s=0.15)) as made:
        assert made.isolation in ("hard", "soft")
        yield made


@pytest.fixture(scope="module")
def inline():
    with Sandbox(mode="inline", limits=Limits(wall_s=0.3)) as made:
        yield made


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def check(sandbox, row, image, canary, listener):
    memory, start = resident_bytes(), time.perf_counter()
    run = sandbox.run(row["code"], [image])
    assert time.perf_counter() - start < sandbox.limits.wall_s + GRACE_S
    assert resident_bytes() - memory < MEMORY_BYTES
    assert "PWNED" not in run.stdout, run.stdout[:200]
    assert SECRET not in run.stdout + run.message
    assert run.result is None or run.result.size != (123, 45)
    assert sorted(os.listdir(CANARY)) == canary
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert len(run.stdout) <= sandbox.limits.stdout_chars + 100
    following = sandbox.run("result = image.crop((0, 0, 50, 40))", [image])
    assert (following.status, following.result.size) == ("ok", (50, 40)), following.message


def by_expect(rows, expect):
    return [pytest.param(r, id=r["id"]) for r in rows if r["expect"] == expect]


@pytest.mark.parametrize("row", [pytest.param(r, id=r["id"]) for r in ATTACKS])
def test_worker_stops_the_corpus(worker, row, image, canary, listener):
    check(worker, row, image, canary, listener)


@pytest.mark.parametrize("row", by_expect(ATTACKS + POLICY, "refuse"))
def test_inline_refuses(inline, row, image, canary, listener):
    check(inline, row, image, canary, listener)


@pytest.mark.slow
@pytest.mark.parametrize("row", by_expect(POLICY, "refuse"))
def test_worker_refuses_what_was_written_against_the_policy(worker, row, image, canary, listener):
    check(worker, row, image, canary, listener)


@pytest.mark.slow
@pytest.mark.parametrize("row", by_expect(POLICY, "bound"))
def test_worker_bounds_what_was_written_against_the_policy(worker, row, image, canary, listener):
    check(worker, row, image, canary, listener)


@pytest.mark.slow
@pytest.mark.parametrize("row", by_expect(ATTACKS + POLICY, "bound"))
def test_inline_bounds_the_corpora(inline, row, image, canary, listener):
    check(inline, row, image, canary, listener)


def functions_of_the_facades():
    for module in MODULES.values():
        for name, member in module.members.items():
            if isinstance(member, Fn):
                yield f"{module.name}.{name}", member.func
            elif isinstance(member, SafeType) and member.make is not None:
                yield f"{module.name}.{name}", member.make
    for kind, table in ATTRIBUTES.items():
        for name, entry in table.items():
            if isinstance(entry, Meth):
                yield f"{kind.__name__}.{name}", entry.func


def test_no_facade_function_takes_its_target_from_an_argument():
    """`lambda obj, name=name: getattr(obj, name)` would let the code pass another name, or a function of its own."""
    for name, func in functions_of_the_facades():
        if isinstance(func, FunctionType):
            defaults = [*(func.__defaults__ or ()), *(func.__kwdefaults__ or {}).values()]
            member = name.rpartition(".")[2]
            assert not any(callable(d) and not isinstance(d, type | SafeType) for d in defaults), name
            assert member not in defaults, name
