"""Runs model-written image code: `Sandbox`, its `Limits`, and the `Run` that comes back."""

from codevision_lite.sandbox.limits import Limits
from codevision_lite.sandbox.run import Run
from codevision_lite.sandbox.sandbox import Sandbox

__all__ = ["Limits", "Run", "Sandbox"]
