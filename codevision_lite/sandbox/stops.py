"""The exceptions that end a run, and what makes a refusal recognisable.

A refusal is an ordinary exception of the kind that the code would have met anyway (ImportError, AttributeError, ...), so that
`try: import x except ImportError` works; a limit is not catchable by the code (bare `except` is compiled to `except Exception`).
"""

from __future__ import annotations


class LimitReached(BaseException):
    """A limit was passed. `kind` is the status that the run ends with: "timeout", "memory" or "output"."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


class Refused(Exception):
    """The policy does not allow what the code asked for. The text says what to do instead."""


class RefusedImport(Refused, ImportError):
    """A module that is not on the allow-list."""


class RefusedAttribute(Refused, AttributeError):
    """An attribute that is not on the allow-list of its type."""


class RefusedCall(Refused, TypeError):
    """A call, or an argument, that the policy does not allow."""


class RefusedName(Refused, NameError):
    """A builtin that exists in Python but not here."""


class TooLarge(Refused, ValueError):
    """An argument that asks for more work or memory than the limits allow; `status` is what an uncaught one makes of the run."""

    def __init__(self, text: str, status: str = "refused") -> None:
        super().__init__(text)
        self.status = status
