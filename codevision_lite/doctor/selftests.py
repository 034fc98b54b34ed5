"""Self-tests: the sandbox in this process, and what loads torch in processes of its own, which a broken install may crash or hang."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from codevision_lite.doctor import base
from codevision_lite.doctor.base import Check

_PROBE_S = 180.0  # seconds for a process that loads torch
_HONEST = "result = image.transpose(Image.Transpose.ROTATE_90)"
_ATTACK = "for c in ().__class__.__base__.__subclasses__():\n    if c.__name__ == 'Popen':\n        c(['id'])\nresult = image"


def check_sandbox() -> list[Check]:
    """An honest program runs, an attack is refused, and what a call costs."""
    from PIL import Image

    from codevision_lite.sandbox import Sandbox

    picture = Image.new("RGB", (640, 480), "white")
    with Sandbox(mode="worker") as sandbox:
        isolation = sandbox.isolation
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            run = sandbox.run(_HONEST, [picture])
            seconds.append(time.perf_counter() - started)
        attack = sandbox.run(_ATTACK, [picture])
    if run.status != "ok" or run.result is None or run.result.size != (480, 640):
        return [Check("sandbox", "problem", f"an honest program ended with {run.status}: {run.message}", base.install([]))]
    if attack.status != "refused":
        return [Check("sandbox", "problem", f"an attack was not refused but ended with {attack.status}", "do not run models; report this")]
    found = f"{isolation} isolation; a rotation {1000 * statistics.median(seconds):.1f} ms, an attack refused"
    if isolation == "hard":
        return [Check("sandbox", "ok", found)]
    fix = "the kernel does not confine the workers (Linux with seccomp does): use models that you trust, or a container (docs/SANDBOX.md)"
    return [Check("sandbox", "note", found, fix)]


def check_tiny(probe: dict[str, Any]) -> list[Check]:
    """`probe`: what answer_once printed, or {"error"}."""
    if not tiny_folder().is_dir():
        return [Check("tiny model", "note", "not here", "it is in the checkout, under sample_data/tiny_base")]
    if "error" in probe:
        return [Check("tiny model", "problem", f"does not run: {probe['error']}", base.install([]))]
    times = f"loaded in {probe['load_s']:.1f} s, answered in {probe['answer_s']:.1f} s"
    if not probe["right"]:
        found = f"{times}: {probe['answer']!r} instead of {probe['gold']!r}"
        return [Check("tiny model", "problem", found, "fetch sample_data/tiny_base again: sample_data/manifest.json has its sha256")]
    return [Check("tiny model", "ok", f"{times}: {probe['answer']!r}, as it should be")]


def tiny_folder() -> Path:
    return base.ROOT / "sample_data" / "tiny_base"


def answer_once() -> dict[str, Any]:
    """Load the tiny model and let it answer about the first upright sample picture. Takes seconds: for a process of its own."""
    started = time.perf_counter()
    from codevision_lite.agent import AgentLimits, run_episode
    from codevision_lite.datasets.rows import load_samples
    from codevision_lite.models import load_model
    from codevision_lite.reward.answer import match
    from codevision_lite.sandbox import Sandbox

    sample = next(s for s in load_samples(base.ROOT / "sample_data" / "pictures.jsonl") if s.damage == "none" and not s.required_ops)
    model = load_model(str(tiny_folder()), backend="transformers")
    loaded = time.perf_counter()
    with Sandbox(mode="worker") as sandbox:
        answer = run_episode(model, sandbox, sample, AgentLimits(max_turns=3, max_reply_tokens=96)).answer
    right = answer is not None and match(answer, sample.answers).value == 1.0
    answered = time.perf_counter() - loaded
    return {"answer": answer, "gold": sample.answers[0], "right": right, "load_s": loaded - started, "answer_s": answered}


TORCH = """
import json, torch
gpus = []
for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
    free, total = torch.cuda.mem_get_info(i)
    name, bf16 = torch.cuda.get_device_name(i), torch.cuda.get_device_capability(i) >= (8, 0)
    gpus.append({"name": name, "total": total, "free": free, "bf16": bf16})
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "gpus": gpus}))
"""
TINY = "import json; from codevision_lite.doctor.selftests import answer_once; print(json.dumps(answer_once()))"


class Probe:
    """A program in a Python of its own that prints one JSON object last; started at once, waited for when asked."""

    def __init__(self, program: str):
        quiet = {"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        self._result: dict[str, Any] | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
            text=True, env={**os.environ, **quiet}, cwd=base.ROOT,
        )  # fmt: skip

    def result(self) -> dict[str, Any]:
        """What it printed, or {"error": one line}."""
        if self._result is None:
            self._result = self._wait()
        return self._result

    def _wait(self) -> dict[str, Any]:
        try:
            out, err = self._process.communicate(timeout=_PROBE_S)
        except subprocess.TimeoutExpired:
            return {"error": f"no end after {_PROBE_S:.0f} s"}
        lines = [line for line in err.splitlines() if line.strip()]
        if self._process.returncode < 0:
            return {"error": f"the process was killed by signal {-self._process.returncode}{': ' + lines[-1] if lines else ''}"}
        if self._process.returncode > 0:
            return {"error": lines[-1] if lines else f"exit code {self._process.returncode}"}
        return json.loads(out.splitlines()[-1])

    def end(self) -> None:
        """Stop it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
