"""Evaluate constraints of a space: comparisons of settings, such as `model.d_model % model.n_heads == 0`.

The text is parsed and its tree evaluated, without `eval`: arithmetic, comparisons, `and`, `or`, `not`, `in`, and four
functions.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

_MAX_LENGTH = 500
_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_UNARY: dict[type, Callable[[Any], Any]] = {ast.Not: operator.not_, ast.USub: operator.neg}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"abs": abs, "len": len, "max": max, "min": min}
_SHAPE = "a comparison of settings, such as loss.sigma_temporal + loss.sigma_spatial <= 1.5"


def paths_in(text: str) -> list[str]:
    """Return the dotted paths that a constraint names. Raises ValueError for an invalid constraint."""
    names: dict[str, None] = {}

    def note(node: ast.AST) -> None:
        if isinstance(node, (ast.Attribute, ast.Name)) and (path := _path_of(node)) is not None:
            names[path] = None
            return
        for part in node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node):
            note(part)

    note(_parse(text))
    if not names:
        raise ValueError(f"{text!r} names no setting; write {_SHAPE}")
    return list(names)


def holds(text: str, value_of: Callable[[str], Any]) -> bool:
    """Return true if a constraint holds.

    Args:
        value_of: returns the value of a setting by its dotted path.
    Raises:
        ValueError: the values cannot be combined, such as a text and a number, or by a division by zero.
    """
    try:
        return bool(_value(_parse(text), value_of))
    except (TypeError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"{text!r} cannot be computed: {error}") from error


def _parse(text: str) -> ast.expr:
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"a constraint of {len(text)} characters; {_MAX_LENGTH} at most")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        raise ValueError(f"{text!r} cannot be read; write {_SHAPE}") from error
    if not isinstance(tree, (ast.Compare, ast.BoolOp, ast.UnaryOp)):
        raise ValueError(f"{text!r} is neither true nor false; write {_SHAPE}")
    _check(tree)
    return tree


def _check(node: ast.expr) -> None:
    """Raise ValueError for a part that is not allowed in a constraint."""
    inner: list[ast.expr]
    match node:
        case ast.BoolOp(values=parts) | ast.List(elts=parts) | ast.Tuple(elts=parts):
            inner = parts
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            inner = [left, right]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            inner = [operand]
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARE for op in ops):
            inner = [left, *others]
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            inner = arguments
        case ast.Constant(value=bool() | int() | float() | str() | None):
            inner = []
        case ast.Attribute() | ast.Name() if _path_of(node) is not None:
            inner = []
        case _:
            known = ", ".join(sorted(_FUNCTIONS))
            raise ValueError(f"{ast.unparse(node)!r} is not allowed in a constraint; functions: {known}")
    for part in inner:
        _check(part)


def _value(node: ast.expr, value_of: Callable[[str], Any]) -> Any:
    match node:
        case ast.BoolOp(op=op, values=parts):
            pick = all if isinstance(op, ast.And) else any
            return pick(_value(part, value_of) for part in parts)
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left, value_of), _value(right, value_of))
        case ast.UnaryOp(op=op, operand=operand):
            return _UNARY[type(op)](_value(operand, value_of))
        case ast.Compare(left=left, ops=ops, comparators=others):
            values = [_value(part, value_of) for part in (left, *others)]
            pairs = zip(ops, values, values[1:], strict=False)
            return all(_COMPARE[type(op)](a, b) for op, a, b in pairs)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _FUNCTIONS[name](*(_value(part, value_of) for part in arguments))
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, value_of) for part in parts]
        case ast.Constant(value=value):
            return value
    path = _path_of(node)
    assert path is not None  # _check has refused all other nodes
    return value_of(path)


def _path_of(node: ast.expr) -> str | None:
    """Return the dotted path of an attribute or a name, such as `model.d_model`; None for other nodes."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (above := _path_of(node.value)) is not None:
        return f"{above}.{node.attr}"
    return None
