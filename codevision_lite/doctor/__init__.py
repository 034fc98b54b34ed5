"""Will this work here? Python, packages against their pins, GPU, recipes, disk, caches, sandbox, tiny model: each with what to do.

    codevision-lite doctor [--json]

A check that can't be made says why and the others go on: nothing beyond Python's own library is imported but inside a check. What loads
torch runs in processes of its own beside the rest, since a broken install may crash or hang where it is imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from codevision_lite.doctor import base, machine, packages, selftests
from codevision_lite.doctor.base import Check
from codevision_lite.doctor.selftests import Probe
from codevision_lite.errors import UserError
from codevision_lite.progress import hanging

_NAME_WIDTH = 34


def main(*, as_json: bool = False) -> int:
    """Print the checks as they are done, or all of them as JSON; 0 where none is a problem, else 1."""
    torch_probe, tiny_probe = Probe(selftests.TORCH), Probe(selftests.TINY)
    checks: list[Check] = []
    steps: dict[str, Callable[[], list[Check]]] = {
        "Python": packages.check_python,
        "packages": lambda: packages.check_packages(machine.has_gpu()),
        "GPU": lambda: machine.check_gpu(torch_probe.result()),
        "recipes": lambda: machine.check_recipes(torch_probe.result()),
        "disk": machine.check_disk,
        "caches": machine.check_caches,
        "sandbox": selftests.check_sandbox,
        "tiny model": lambda: selftests.check_tiny(tiny_probe.result()),
    }
    try:
        for name, step in steps.items():
            for check in _tried(name, step):
                checks.append(check)
                if not as_json:
                    print(_line(check), flush=True)
    finally:
        torch_probe.end()
        tiny_probe.end()
    problems = [check for check in checks if check.status == "problem"]
    if as_json:
        print(json.dumps({"ok": not problems, "checks": [asdict(check) for check in checks]}, indent=1))
    else:
        print(f"\n{len(problems)} problem{'' if len(problems) == 1 else 's'}" if problems else "\nno problems")
    return int(bool(problems))


def _line(check: Check) -> str:
    text = hanging(f"{check.status:<8} {check.name:<{_NAME_WIDTH}} ", check.found)
    return f"{text}\n{hanging(' ' * (9 + _NAME_WIDTH) + ' -> ', check.fix)}" if check.fix else text


def _tried(name: str, step: Callable[[], list[Check]]) -> list[Check]:
    try:
        return step()
    except ImportError as e:
        return [Check(name, "problem", f"can't be checked: {e}", base.install([e.name.split(".")[0]] if e.name else []))]
    except UserError as e:  # says itself what to do
        return [Check(name, "problem", str(e))]
    except Exception as e:  # whatever a broken install does: the other checks go on
        return [Check(name, "problem", f"can't be checked: {type(e).__name__}: {_first_line(e)}", base.install([]))]


def _first_line(e: Exception) -> str:
    return (str(e).strip() or type(e).__name__).splitlines()[0]
