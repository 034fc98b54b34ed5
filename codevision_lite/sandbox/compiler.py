"""Source text -> code object in which every access, call, operator and loop goes through a hook of guards.py.

A RestrictedPython policy. Beyond the stock transformer it allows what image code is full of (`a[i] += v`, `x: int = 1`, `_tmp`,
nonlocal, print, simple classes) and adds hooks where stock has none (calls, operators, stars, f-strings, loop heads).
Does not decide what is allowed at run time: that is the hooks' work. Anything not listed here is refused by its node type.
"""

from __future__ import annotations

import ast
from typing import Any

from RestrictedPython.transformer import RestrictingNodeTransformer

# Methods that a user class may define. Not here: everything that library code would call behind our back with raw objects
# (__getattr__, __array__, __index__, __reduce__, __init_subclass__, __del__, ...).
CLASS_METHODS = frozenset(
    "__init__ __post_init__ __repr__ __str__ __len__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __call__ __iter__ __next__ "
    "__enter__ __exit__ __contains__ __getitem__ __setitem__ __delitem__ __bool__ __hash__ __neg__ __pos__ __abs__ __invert__ "
    "__add__ __sub__ __mul__ __truediv__ __floordiv__ __mod__ __pow__ __and__ __or__ __xor__ __matmul__ "
    "__radd__ __rsub__ __rmul__ __rtruediv__ __iadd__ __isub__ __imul__ __itruediv__".split()
)
PREFIX = "_u_"  # user names that start with an underscore get this prefix: they can never spell a hook or a private attribute

BINARY = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.LShift: "<<", ast.RShift: ">>", ast.BitOr: "|", ast.BitXor: "^", ast.BitAnd: "&", ast.MatMult: "@",
}  # fmt: skip
COMPARE = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
UNARY = {ast.USub: "-", ast.UAdd: "+", ast.Invert: "~"}
LOAD = ast.Load()


def hook(name: str, *args: ast.expr, keywords: list[ast.keyword] | None = None) -> ast.Call:
    return ast.Call(func=ast.Name(name, LOAD), args=list(args), keywords=keywords or [])


class Policy(RestrictingNodeTransformer):
    """The transformer. Errors are collected as (line, text); locations of new nodes are filled in at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[tuple[int, str]] = []
        self.names: set[str] = set()
        self.in_class = 0
        self.self_name = ""

    # -- names ---------------------------------------------------------------------------------------------------------

    def error(self, node: ast.AST, info: str) -> None:
        self.refusals.append((getattr(node, "lineno", 1), info))

    def not_allowed(self, node: ast.AST) -> None:
        advice = {"TryStar": "use except", "Match": "use if/elif"}.get(type(node).__name__, "write it without")
        self.error(node, f"{type(node).__name__} is not available in the sandbox: {advice}")

    def rename(self, node: ast.AST, name: str | None) -> Any:
        """The name under which a user's name is kept. Dunder names are refused."""
        if name is None or not name.startswith("_") or name == "_":
            return name
        if name.startswith("__") and name.endswith("__"):
            self.error(node, f"{name} is not available in the sandbox")
        return PREFIX + name

    def visit_Name(self, node: ast.Name) -> Any:
        if node.id == "__name__" and isinstance(node.ctx, ast.Load):
            return ast.copy_location(ast.Constant("__main__"), node)
        node.id = self.rename(node, node.id)
        self.names.add(node.id)
        return node

    def visit_arg(self, node: ast.arg) -> Any:
        node.arg = self.rename(node, node.arg)
        node.annotation = None
        return node

    def visit_keyword(self, node: ast.keyword) -> Any:
        node.arg = self.rename(node, node.arg)
        node.value = self.visit(node.value)
        if node.arg is None:
            node.value = hook("_kwargs_", node.value)
        return node

    def visit_Global(self, node: ast.Global) -> Any:
        node.names = [self.rename(node, n) for n in node.names]
        return node

    visit_Nonlocal = visit_Global

    def visit_TemplateStr(self, node: ast.AST) -> Any:
        self.not_allowed(node)

    visit_Interpolation = visit_TemplateStr

    def visit_NamedExpr(self, node: ast.NamedExpr) -> Any:
        return self.node_contents_visit(node)

    def visit_Constant(self, node: ast.Constant) -> Any:
        return node

    # -- access --------------------------------------------------------------------------------------------------------

    def attribute_name(self, node: ast.Attribute) -> str:
        if node.attr == "__name__" and isinstance(node.ctx, ast.Load):
            return "__name__"
        return self.rename(node, node.attr)

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        inner = node.value
        if node.attr == "__name__" and isinstance(inner, ast.Attribute) and inner.attr == "__class__" and isinstance(node.ctx, ast.Load):
            return ast.copy_location(hook("_type_name_", self.visit(inner.value)), node)  # self.__class__.__name__: a text
        name = self.attribute_name(node)
        value = self.visit(node.value)
        if isinstance(node.ctx, ast.Load):
            return ast.copy_location(hook("_getattr_", value, ast.Constant(name)), node)
        node.value, node.attr = hook("_write_", value), name
        return node

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        value, key = self.visit(node.value), self.visit(node.slice)
        if isinstance(node.ctx, ast.Load):
            return ast.copy_location(hook("_getitem_", value, key), node)
        node.value, node.slice = hook("_write_", value), key
        return node

    def visit_Starred(self, node: ast.Starred) -> Any:
        node.value = self.visit(node.value)
        if isinstance(node.ctx, ast.Load):
            node.value = hook("_star_", node.value)
        return node

    def visit_Dict(self, node: ast.Dict) -> Any:
        node = self.node_contents_visit(node)
        node.values = [hook("_kwargs_", v) if k is None else v for k, v in zip(node.keys, node.values, strict=True)]
        node.keys = [k if k is None or isinstance(k, ast.Constant) else hook("_key_", k) for k in node.keys]
        return node

    def visit_Set(self, node: ast.Set) -> Any:
        node = self.node_contents_visit(node)
        node.elts = [e if isinstance(e, ast.Constant | ast.Starred) else hook("_key_", e) for e in node.elts]
        return node

    # -- calls and operators ---------------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Attribute):
            of_super = isinstance(node.func.value, ast.Call) and getattr(node.func.value.func, "id", "") == "super"
            name = "__init__" if of_super and node.func.attr == "__init__" else self.attribute_name(node.func)
            head = [self.visit(node.func.value), ast.Constant(name)]
            target = "_callmethod_"
        else:
            head, target = [self.visit(node.func)], "_call_"
        if target == "_call_" and isinstance(node.func, ast.Name) and node.func.id == "super" and self.self_name and not node.args:
            return ast.copy_location(hook("_super_", ast.Name("__class__", LOAD), ast.Name(self.self_name, LOAD)), node)
        args = [self.visit(a) for a in node.args]
        keywords = [self.visit(k) for k in node.keywords]
        return ast.copy_location(hook(target, *head, *args, keywords=keywords), node)

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        operator = ast.Constant(BINARY[type(node.op)])
        return ast.copy_location(hook("_binary_", operator, self.visit(node.left), self.visit(node.right)), node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        if isinstance(node.op, ast.Not) or isinstance(node.operand, ast.Constant):
            node.operand = self.visit(node.operand)
            return node
        return ast.copy_location(hook("_unary_", ast.Constant(UNARY[type(node.op)]), self.visit(node.operand)), node)

    def visit_Compare(self, node: ast.Compare) -> Any:
        left, rights = self.visit(node.left), [self.visit(c) for c in node.comparators]
        if len(rights) > 1:  # a chain keeps its own evaluation order; arrays can not stand in one anyway
            node.left, node.comparators = hook("_chained_", left), [hook("_chained_", c) for c in rights]
            return node
        operator = node.ops[0]
        if isinstance(operator, ast.Is | ast.IsNot):
            node.left, node.comparators = left, rights
            return node
        if isinstance(operator, ast.In | ast.NotIn):
            inside: ast.expr = hook("_in_", left, rights[0])
            if isinstance(operator, ast.NotIn):
                inside = ast.UnaryOp(op=ast.Not(), operand=inside)
            return ast.copy_location(inside, node)
        return ast.copy_location(hook("_compare_", ast.Constant(COMPARE[type(operator)]), left, rights[0]), node)

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        operator, target = ast.Constant(BINARY[type(node.op)] + "="), node.target
        value = self.visit(node.value)
        if isinstance(target, ast.Name):
            name = self.rename(target, target.id)
            self.names.add(name)
            new: ast.stmt = ast.Assign([ast.Name(name, ast.Store())], hook("_inplace_", operator, ast.Name(name, LOAD), value))
        elif isinstance(target, ast.Subscript):
            new = ast.Expr(hook("_inplace_item_", operator, self.visit(target.value), self.visit(target.slice), value))
        else:
            name = self.rename(target, target.attr)
            new = ast.Expr(hook("_inplace_attr_", operator, self.visit(target.value), ast.Constant(name), value))
        return ast.copy_location(new, node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> Any:
        return self.node_contents_visit(node)

    def visit_FormattedValue(self, node: ast.FormattedValue) -> Any:
        spec = self.visit(node.format_spec) if node.format_spec is not None else ast.Constant("")
        text = hook("_format_", self.visit(node.value), ast.Constant(node.conversion), spec)
        return ast.copy_location(ast.FormattedValue(value=text, conversion=-1, format_spec=None), node)

    # -- statements ------------------------------------------------------------------------------------------------------

    def visit_Assign(self, node: ast.Assign) -> Any:
        node.targets = [self.visit(t) for t in node.targets]
        node.value = self.visit(node.value)
        if any(isinstance(t, ast.Tuple | ast.List) for t in node.targets):
            node.value = hook("_unpack_", node.value)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        node.target = self.visit(node.target)
        node.value = self.visit(node.value) if node.value is not None else None
        if self.in_class:  # a class keeps the names of its annotations (dataclass reads them), never what they say
            node.annotation = ast.Constant(None)
            return node
        new = ast.Assign([node.target], node.value) if node.value is not None else ast.Pass()
        return ast.copy_location(new, node)

    def visit_For(self, node: ast.For) -> Any:
        node = self.node_contents_visit(node)
        node.iter = hook("_getiter_", node.iter)
        node.body.insert(0, self.tick(node))
        return node

    def visit_While(self, node: ast.While) -> Any:
        node = self.node_contents_visit(node)
        node.body.insert(0, self.tick(node))
        return node

    def visit_comprehension(self, node: ast.comprehension) -> Any:
        if node.is_async:
            self.error(node.iter, "async is not available in the sandbox")
        node = self.node_contents_visit(node)
        node.iter = hook("_getiter_", node.iter)
        node.ifs.insert(0, hook("_tick_"))
        return node

    def tick(self, node: ast.AST) -> ast.Expr:
        return ast.copy_location(ast.Expr(hook("_tick_")), node)

    def visit_DictComp(self, node: ast.DictComp) -> Any:
        node = self.node_contents_visit(node)
        node.key = hook("_key_", node.key)
        return node

    def visit_SetComp(self, node: ast.SetComp) -> Any:
        node = self.node_contents_visit(node)
        node.elt = hook("_key_", node.elt)
        return node

    def visit_YieldFrom(self, node: ast.YieldFrom) -> Any:
        node.value = hook("_getiter_", self.visit(node.value))
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> Any:
        node.name = self.rename(node, node.name)
        if node.type is None:  # bare except must not catch a limit
            node.type = ast.Name("Exception", LOAD)
        node.type = hook("_except_", self.visit(node.type))
        node.body = [s for b in node.body for s in _as_list(self.visit(b))]
        return node

    def visit_With(self, node: ast.With) -> Any:
        node = self.node_contents_visit(node)
        for item in node.items:
            item.context_expr = hook("_with_", item.context_expr)
        return node

    # -- functions, classes, imports -------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        if not (self.in_class and node.name in CLASS_METHODS):
            node.name = self.rename(node, node.name)
        node.returns = None
        if hasattr(node, "type_params"):  # Python 3.12: expressions that nothing here needs
            node.type_params = []
        node.decorator_list = [hook("_decorator_", self.visit(d)) for d in node.decorator_list]
        node.args = self.visit(node.args)
        outer, self.in_class = self.in_class, 0
        outer_self = self.self_name
        if outer:  # a method: super() needs its first argument
            self.self_name = node.args.args[0].arg if node.args.args else ""
        node.body = [self.tick(node), *(s for b in node.body for s in _as_list(self.visit(b)))]
        self.in_class, self.self_name = outer, outer_self
        return node

    def visit_Lambda(self, node: ast.Lambda) -> Any:
        node.args = self.visit(node.args)
        ticked = ast.UnaryOp(op=ast.Not(), operand=hook("_tick_"))
        node.body = ast.BoolOp(op=ast.Or(), values=[ticked, self.visit(node.body)])
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        node.name = self.rename(node, node.name)
        if node.keywords:
            self.error(node, "class keywords (metaclass=...) are not available in the sandbox")
        bases = [self.visit(b) for b in node.bases]
        decorators = [hook("_decorator_", self.visit(d)) for d in node.decorator_list]
        self.in_class += 1
        body = [s for b in node.body for s in _as_list(self.visit(b))]
        self.in_class -= 1
        meta = [ast.keyword("metaclass", ast.Name("_Meta_", LOAD))]
        return ast.copy_location(ast.ClassDef(node.name, bases, meta, body, decorators), node)

    def visit_Import(self, node: ast.Import) -> Any:
        new = []
        for alias in node.names:
            bound = alias.asname or alias.name.partition(".")[0]
            whole = ast.Constant(alias.asname is not None)
            name = self.rename(node, bound)
            self.names.add(name)
            new.append(ast.Assign([ast.Name(name, ast.Store())], hook("_import_", ast.Constant(alias.name), whole)))
        return [ast.copy_location(n, node) for n in new]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        if node.level or not node.module:
            self.error(node, "relative imports are not available in the sandbox")
            return node
        if node.module == "__future__":
            return ast.copy_location(ast.Pass(), node)
        new: list[ast.stmt] = []
        for alias in node.names:
            if alias.name == "*":
                new.append(ast.Expr(hook("_import_star_", ast.Constant(node.module))))
                continue
            name = self.rename(node, alias.asname or alias.name)
            self.names.add(name)
            value = hook("_import_from_", ast.Constant(node.module), ast.Constant(alias.name))
            new.append(ast.Assign([ast.Name(name, ast.Store())], value))
        return [ast.copy_location(n, node) for n in new]

    def visit_Module(self, node: ast.Module) -> Any:
        """A trailing expression is kept: it is the result where nothing else was assigned."""
        ends_in_expression = bool(node.body) and isinstance(node.body[-1], ast.Expr)
        node.body = [s for b in node.body for s in _as_list(self.visit(b))]
        if ends_in_expression:
            node.body[-1].value = hook("_last_", node.body[-1].value)
        return node


def _as_list(node: Any) -> list[Any]:
    return node if isinstance(node, list) else [node]
