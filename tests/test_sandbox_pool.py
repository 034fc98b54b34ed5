"""The worker pool: kills and replaces, keeps order, does not block the head of the line, leaves no process behind."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codevision_lite.errors import SandboxError
from codevision_lite.sandbox import Limits, Run, Sandbox
from codevision_lite.sandbox.resident import MAX_BYTES, Keys, Shelf
from codevision_lite.sandbox.seccomp import build
from codevision_lite.sandbox.wire import unpack_run

CROP = "result = image.crop((0, 0, 50, 40))"
linux = pytest.mark.skipif(sys.platform != "linux", reason="PDEATHSIG and seccomp are Linux's")


@pytest.fixture(scope="module")
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def pool():
    with Sandbox(limits=Limits(wall_s=0.4), workers=2) as made:
        yield made


def pids(sandbox):
    return [w.pid for w in sandbox._pool.idle] + [sandbox._pool.zygote.process.pid]


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


@linux
def test_a_worker_that_hangs_is_killed_and_the_next_call_is_quick(pool, image):
    busy = pool._pool.idle[0].pid  # frozen in the middle of its run, as in a native call that does not return
    freeze = threading.Timer(0.1, os.kill, (busy, signal.SIGSTOP))
    freeze.start()
    run = pool.run("while True: pass", [image])
    assert run.status == "timeout"
    assert "0.4 s" in run.message
    assert not is_running(busy)
    start = time.perf_counter()
    assert pool.run(CROP, [image]).status == "ok"
    assert time.perf_counter() - start < 0.3  # 10 ms on an idle machine


def test_batch_keeps_order_and_a_slow_job_does_not_block_the_rest(pool, image):
    jobs = [("while True: pass", [image], 0), *((f"print({i})\n{CROP}", [image], 0) for i in range(40))]
    start = time.perf_counter()
    runs = pool.run_batch(jobs)
    assert runs[0].status == "timeout"
    assert [r.stdout for r in runs[1:]] == [f"{i}\n" for i in range(40)]
    assert time.perf_counter() - start < 1.5
    assert max(r.seconds for r in runs[1:]) < 0.3


def test_a_worker_that_was_killed_while_idle_is_replaced(pool, image):
    for worker in pool._pool.idle:
        os.kill(worker.pid, signal.SIGKILL)
    time.sleep(0.05)
    assert [pool.run(CROP, [image]).status for _ in range(4)] == ["ok"] * 4


def test_a_warm_process_that_was_killed_is_replaced(image):
    with Sandbox() as sandbox:
        os.kill(sandbox._pool.zygote.process.pid, signal.SIGKILL)
        time.sleep(0.2)
        assert sandbox.run(CROP, [image]).status == "ok"


def test_a_worker_is_recycled_after_its_number_of_runs(image):
    with Sandbox(limits=Limits(runs_per_worker=2)) as sandbox:
        seen = []
        for _ in range(4):
            seen.append(sandbox._pool.idle[0].pid)
            assert sandbox.run(CROP, [image]).status == "ok"
        assert len(set(seen)) == 2


def test_a_worker_starts_whatever_time_a_run_is_given(image):
    """A busy machine takes longer to call everything once than a short run may take."""
    with Sandbox(limits=Limits(wall_s=0.0005)) as sandbox:
        assert sandbox.run("while True: pass", [image]).status == "timeout"


def test_memory_of_a_library_call_is_bounded(image):
    with Sandbox(limits=Limits(memory_mb=200)) as sandbox:
        run = sandbox.run("x = [np.ones((1000, 1000)) for _ in range(400)]", [image])
        assert run.status == "memory"
        assert sandbox.run(CROP, [image]).status == "ok"


def sent_bytes(shelf, picture, keys):
    rows, _, _ = shelf.plan([picture], [keys.of(picture)], keys)
    return rows[0]["bytes"]


def test_resident_pictures_are_sent_once_and_edits_are_noticed(pool, image):
    mine, keys, shelf = image.copy(), Keys(), Shelf()
    assert sent_bytes(shelf, mine, keys) == 640 * 480 * 4
    assert sent_bytes(shelf, mine, keys) == 0
    mine.paste((255, 0, 0), (0, 0, 100, 100))
    assert sent_bytes(shelf, mine, keys) == 640 * 480 * 4
    assert pool.run(CROP, [mine]).result.getpixel((9, 9)) == (255, 0, 0)


def test_pictures_beyond_the_shelf_are_dropped_oldest_first():
    shelf, keys = Shelf(), Keys()
    pictures = [Image.new("L", (8000, 8000)) for _ in range(1 + MAX_BYTES // 64_000_000)]
    drops = [shelf.plan([p], [keys.of(p)], keys)[2] for p in pictures]
    assert drops[-1] == [1]
    assert not any(drops[:-1])


@linux
def test_nothing_is_left_after_close(image):
    with Sandbox(workers=2) as sandbox:
        made = pids(sandbox)
        assert all(map(is_running, made))
    assert not any(map(is_running, made))
    with pytest.raises(SandboxError, match="closed"):
        sandbox.run(CROP, [image])


PARENT = """
import threading, time
from PIL import Image
from codevision_lite.sandbox import Limits, Sandbox
s = Sandbox(workers=2, limits=Limits(wall_s=60, cpu_s=60))
print(*[w.pid for w in s._pool.idle], s._pool.zygote.process.pid, flush=True)
threading.Thread(target=lambda: s.run("while True: pass", [Image.new("RGB", (9, 9))])).start()
time.sleep(60)
"""


@linux
def test_nothing_is_left_after_the_parent_was_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    made = [int(p) for p in parent.stdout.readline().split()]
    time.sleep(0.2)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.perf_counter() + 5
    while any(map(is_running, made)) and time.perf_counter() < end:
        time.sleep(0.02)
    assert not any(map(is_running, made))


@linux
def test_workers_are_filtered_by_the_kernel(pool):
    """The policy is the first wall; this looks at the second: what the process could do if the policy failed."""
    assert pool.isolation == "hard"
    status = {}
    with open(f"/proc/{pool._pool.idle[0].pid}/status") as file:
        status = dict(line.split(":", 1) for line in file if ":" in line)
    assert status["Seccomp"].strip() == "2"
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Threads"].strip() == "1"


FILTERED = """
import os, socket, ctypes
from codevision_lite.sandbox import seccomp
libc = ctypes.CDLL(None)
assert seccomp.install()
def refused(call):
    try:
        call()
    except PermissionError:
        return True
    return False
calls = [lambda: open("/etc/passwd"), lambda: open("/tmp/made_by_sandbox_test", "w"), lambda: socket.socket(), os.fork,
         lambda: os.kill(os.getppid(), 0),
         lambda: os.execv("/bin/true", ["true"]), lambda: os.unlink("/tmp/none"), lambda: os.mkdir("/tmp/none"), lambda: os.listdir("/")]
print(all(map(refused, calls)), libc.system(b"true") != 0)
"""


@linux
def test_the_filter_refuses_files_sockets_and_processes():
    done = subprocess.run([sys.executable, "-c", FILTERED], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True True", done.stderr


def test_filter_is_known_for_both_architectures():
    assert len(build("x86_64")) % 8 == len(build("aarch64")) % 8 == 0
    assert build("riscv64") is None


def good_reply():
    return {"status": "ok", "message": "m", "stdout": "", "seconds": 0.1, "ops": [], "frame": None, "image": {"mode": "L", "size": [2, 2]}}


IDENTITY = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
BAD = [
    {"status": "owned"}, {"image": {"mode": "L", "size": [2, 3]}}, {"image": {"mode": "F", "size": [2, 2]}},
    {"image": {"mode": "L", "size": [-2, -2]}},
    {"message": "x" * 10**6}, {"frame": [{"polygon": [[0, 0]], "matrix": [[float("nan")] * 3] * 3, "source": 0}]},
    {"ops": [{"name": 1, "args": {}, "change": None}]}, {"frame": [{"polygon": [], "matrix": IDENTITY, "source": 0}]},
    {"frame": [{"polygon": [[0, 0], [2, 0], [2, 2]], "matrix": IDENTITY, "source": 7}]},
    {"frame": [{"polygon": [[0, 0], [1e300, 0], [2, 2]], "matrix": IDENTITY, "source": 0}]},
]  # fmt: skip


@pytest.mark.parametrize("change", BAD)
def test_replies_are_not_trusted(change):
    assert isinstance(unpack_run(good_reply(), bytearray(4), Limits()), Run)
    with pytest.raises((ValueError, KeyError, TypeError)):
        unpack_run({**good_reply(), **change}, bytearray(4), Limits())


def test_secrets_of_the_environment_do_not_reach_the_workers(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hunter2")
    with Sandbox() as sandbox:
        for pid in pids(sandbox):
            with contextlib.suppress(PermissionError), open(f"/proc/{pid}/environ") as file:
                assert "hunter2" not in file.read()


WARM = """
import json, sys
import numpy as np
from PIL import Image
from codevision_lite.sandbox import Limits, inline, worker
worker.warm_up()
before = set(sys.modules)
image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8))
for row in json.load(open(sys.argv[1])):
    inline.execute(row["code"], [image], 0, Limits(wall_s=2))
print(sorted(set(sys.modules) - before))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["benign.json", "sandbox_programs.json"])
def test_warm_up_imports_everything_that_runs_import(name):
    """After the filter no module can be loaded: a library that imports inside a function would fail in workers only."""
    arguments = [sys.executable, "-c", WARM, str(Path(__file__).parent / "data" / name)]
    assert subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip() == "[]"
