"""Compiling under the policy, with a cache of the last programs."""

from __future__ import annotations

import ast
from collections import OrderedDict
from dataclasses import dataclass
from types import CodeType
from typing import Any

from codevision_lite.sandbox.compiler import Policy
from codevision_lite.sandbox.limits import Limits
from codevision_lite.sandbox.stops import Refused

CACHE_SIZE = 256


@dataclass(frozen=True)
class Program:
    """A compiled program. `names`: every name that the source reads or writes, to provide only what is asked for."""

    code: CodeType
    names: frozenset[str]


_cache: OrderedDict[str, Program] = OrderedDict()


def compile_code(source: str, limits: Limits) -> Program:
    """Compile under the policy. Raises SyntaxError, or Refused where the policy says no (line in `.lineno`)."""
    program = _cache.get(source)
    if program is not None:
        _cache.move_to_end(source)
        return program
    if len(source) > limits.code_chars:
        raise Refused(f"the code has {len(source):,} characters; at most {limits.code_chars:,} are possible")
    program = _compile(source)
    _cache[source] = program
    if len(_cache) > CACHE_SIZE:
        _cache.popitem(last=False)
    return program


def located(tree: ast.AST) -> ast.AST:
    """Give every new node the place of the node around it (ast.fix_missing_locations, in half the time)."""
    stack: list[tuple[ast.AST, dict[str, Any]]] = [(tree, {"lineno": 1, "col_offset": 0, "end_lineno": 1, "end_col_offset": 0})]
    pop, push = stack.pop, stack.append
    while stack:
        node, place = pop()
        own = node.__dict__
        for value in own.values():
            if type(value) is list:
                for child in value:
                    if isinstance(child, ast.AST):
                        push((child, own if "lineno" in own else place))
            elif isinstance(value, ast.AST) and value._fields:  # not Load(), Add() and the like
                push((value, own if "lineno" in own else place))
        if "lineno" not in own and node._attributes:
            own["lineno"], own["col_offset"] = place["lineno"], place["col_offset"]
            own["end_lineno"], own["end_col_offset"] = place["end_lineno"], place["end_col_offset"]
    return tree


def _compile(source: str) -> Program:
    try:
        tree = ast.parse(source)
        policy = Policy()
        tree = policy.visit(tree)
        if policy.refusals:
            line, text = policy.refusals[0]
            refused = Refused(text)
            refused.lineno = line  # type: ignore[attr-defined]
            raise refused
        code = compile(located(tree), "<code>", "exec", dont_inherit=True)
    except (RecursionError, MemoryError) as e:
        raise SyntaxError("the code is nested too deeply") from e
    except ValueError as e:  # null bytes, integers of thousands of digits
        raise SyntaxError(str(e)[:200]) from e
    return Program(code, frozenset(policy.names))
