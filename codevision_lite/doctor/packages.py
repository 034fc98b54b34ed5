"""Python and the packages, against the pins of this checkout or of the installed package."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys

from codevision_lite.doctor import base
from codevision_lite.doctor.base import Check

_PYTHON = (3, 11)  # as pyproject.toml says; numpy's pin needs it
# Another version of these is a problem: train/ and models/ reach into them. Of the others it is only said.
_REACHED_INTO = {"torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "unsloth", "unsloth-zoo"}
_FOR_DEVELOPERS = ("tests", "fonts")  # how the headings of those groups start; training and use do without them


def check_python() -> list[Check]:
    found = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info < _PYTHON:
        wanted = ".".join(map(str, _PYTHON))
        return [Check("Python", "problem", found, f"install Python {wanted} or newer, then: make setup PYTHON=python{wanted}")]
    return [Check("Python", "ok", found)]


def read_pins(with_gpu: bool) -> dict[str, dict[str, str]]:
    """Group -> package -> version: of the requirements files of a checkout, else of the installed package's own metadata, which has no
    groups and not the GPU's packages. Empty where neither is there."""
    if (base.ROOT / "requirements-cpu.txt").is_file():
        files = [base.ROOT / "requirements-cpu.txt", *([base.ROOT / "requirements.txt"] if with_gpu else [])]
        groups: dict[str, dict[str, str]] = {}
        for path in files:
            heading = "packages: NVIDIA GPU" if path.name == "requirements.txt" else "packages"
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.startswith("#") and path.name != "requirements.txt":
                    heading = f"packages: {re.split('[:,]', line.lstrip('# '))[0]}"
                elif pin := _pin(line):
                    groups.setdefault(heading, {})[pin[0]] = pin[1]
        return groups
    try:
        required = importlib.metadata.requires(base.DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    pins = dict(pin for line in required if (pin := _pin(line)))
    return {"packages": pins} if pins else {}


def check_packages(with_gpu: bool) -> list[Check]:
    """A line for each group of pins."""
    groups = read_pins(with_gpu)
    if not groups:
        fix = "run it in a checkout, or install the package: pip install -e ."
        return [Check("packages", "note", "the pins are not known: neither requirements-cpu.txt nor the package's metadata is here", fix)]
    return [_check_group(name, pins) for name, pins in groups.items()]


def _check_group(name: str, pins: dict[str, str]) -> Check:
    versions = {package: _version(package) for package in pins}
    missing = [package for package, version in versions.items() if version is None]
    others = [package for package, version in versions.items() if version is not None and version != pins[package]]
    if not missing and not others:
        return Check(name, "ok", f"{len(pins)} package{'' if len(pins) == 1 else 's'}, as pinned")
    parts = [f"{len(pins) - len(missing) - len(others)} of {len(pins)} as pinned"]
    if missing:
        parts.append(f"missing: {', '.join(missing)}")
    parts += [f"{package} {versions[package]} instead of {pins[package]}" for package in others]
    needed = not name.removeprefix("packages: ").startswith(_FOR_DEVELOPERS)
    serious = needed and (bool(missing) or any(package in _REACHED_INTO for package in others))
    return Check(name, "problem" if serious else "note", "; ".join(parts), base.install([f"{p}=={pins[p]}" for p in (*missing, *others)]))


def _pin(line: str) -> tuple[str, str] | None:
    found = re.match(r"([A-Za-z0-9][\w.-]*)\s*==\s*([\w.]+)", line)
    return (found[1].lower().replace("_", "-"), found[2]) if found else None


def _version(package: str) -> str | None:
    """Without what a build adds: 2.13.0+cpu is 2.13.0."""
    try:
        return importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None
