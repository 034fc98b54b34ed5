"""The few exceptions of the project. What a model does wrong is data (an Observation), never an exception."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can fix. The command line prints its one line (what, where, how to fix) and exits with 2."""


class MissingPackage(UserError):
    """An optional package is needed for what was asked; the message holds the install line."""


class SandboxError(RuntimeError):
    """The sandbox itself failed (a worker could not be started): ours to fix, not the model's and not the user's."""
