"""Which rows does a filter expression choose? `get_all_where` and `get_all_records_where` ask (spec §2.2).

An expression comes from a client: it is bounded in length and depth, and nothing here recurses. Quirks of the
reference's grammar: `and` and `or` bind equally, from the left; `not` takes everything to its right, up to the closing
parenthesis; a literal has no escapes, so it cannot hold a double quote.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypeVar

from poolnet.db.shape import SHAPES, Shape
from poolnet.db.txn import View
from poolnet.model.errors import invalid_value
from poolnet.model.types import Row

R = TypeVar("R", bound=Row)

MAX_LENGTH: Final = 65_536
"""Characters in an expression: enough for some 500 references, the most that any known client sends."""

MAX_DEPTH: Final = 1_000
"""Parentheses and `not` inside each other."""

_TOKEN: Final = re.compile(r'\s*(?:(?P<word>true|false|field|and|or|not)|(?P<mark>[=()])|"(?P<text>[^"]*)")')


@dataclass(frozen=True, slots=True)
class Equal:
    """Compares two texts, each a literal or the text form of a field."""

    left: Operand
    right: Operand


@dataclass(frozen=True, slots=True)
class Operand:
    """A literal, or the internal name of a field (`name__label`)."""

    is_field: bool
    text: str


Operation: TypeAlias = "Equal | bool | Literal['and', 'or', 'not']"


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed expression: its operations in the order of evaluation (operands before their operator)."""

    expression: str
    operations: tuple[Operation, ...]


def parse(expression: str) -> Filter:
    """Reads a filter expression.

    Raises:
        Failure: INVALID_VALUE[expression; what is wrong].
    """
    if len(expression) > MAX_LENGTH:
        raise invalid_value(expression[:MAX_LENGTH], f"longer than {MAX_LENGTH} characters")
    try:
        return Filter(expression, tuple(_operations(_tokens(expression))))
    except _Malformed as error:
        raise invalid_value(expression, str(error)) from None


def select(view: View, cls: type[R], chosen: Filter) -> tuple[R, ...]:
    """Gives the rows of a class that a filter chooses, in creation order as far as no index was used.

    Where the expression demands that an indexed field (a reference, the uuid, the name-label) has some value, only
    the rows with that value are looked at.

    Raises:
        Failure: INVALID_VALUE[expression; what is wrong] if it names a field that the class has not.
    """
    shape = SHAPES[cls]
    steps = _compile(shape, chosen)
    indexed = _index_condition(shape, chosen)
    rows = view.all(cls) if indexed is None else view.where(cls, **{indexed[0]: indexed[1]})
    return tuple(row for row in rows if _holds(steps, row))


class _Malformed(Exception):
    """The expression is not in the grammar."""


_Token: TypeAlias = tuple[str, str]
"""Its kind (word, mark, text, or end) and what it says."""


def _tokens(expression: str) -> Iterator[_Token]:
    """Splits an expression; the last token is the end."""
    expression = expression.rstrip()
    at = 0
    while at < len(expression):
        token = _TOKEN.match(expression, at)
        if token is None:
            raise _Malformed(f"no token at character {at + 1}")
        kind = str(token.lastgroup)
        yield kind, token[kind]
        at = token.end()
    yield "end", "the end"


def _operations(tokens: Iterator[_Token]) -> Iterator[Operation]:
    """Puts the operations into the order of evaluation (operators wait on a stack until their operands are there)."""
    waiting: list[Literal["and", "or", "not", "("]] = []
    operand_due = True
    for kind, text in tokens:
        match (kind, text):
            case ("word", "not") | ("mark", "(") if operand_due:
                waiting.append("not" if text == "not" else "(")
            case ("word", "true" | "false") if operand_due:
                yield text == "true"
                operand_due = False
            case ("text", _) | ("word", "field") if operand_due:
                yield _equal(kind, text, tokens)
                operand_due = False
            case ("word", "and" | "or") if not operand_due:
                while waiting and (top := waiting[-1]) in ("and", "or"):
                    waiting.pop()
                    yield top
                waiting.append("and" if text == "and" else "or")
                operand_due = True
            case ("mark", ")") | ("end", _) if not operand_due:
                while waiting and (top := waiting[-1]) != "(":
                    waiting.pop()
                    yield top
                if bool(waiting) != (kind == "mark"):
                    raise _Malformed("parentheses do not pair up")
                if waiting:
                    waiting.pop()
            case _:
                raise _Malformed(f"{text!r} is out of place")
        if len(waiting) > MAX_DEPTH:
            raise _Malformed(f"deeper than {MAX_DEPTH}")


def _equal(kind: str, text: str, tokens: Iterator[_Token]) -> Equal:
    """Reads a comparison, of which the first token has been taken."""
    left = _operand(kind, text, tokens)
    if next(tokens)[1] != "=":
        raise _Malformed(f"no = after {left.text!r}")
    return Equal(left, _operand(*next(tokens), tokens))


def _operand(kind: str, text: str, tokens: Iterator[_Token]) -> Operand:
    """Reads a literal or a field, of which the first token has been taken."""
    is_field = (kind, text) == ("word", "field")
    if is_field:
        kind, text = next(tokens)
    if kind != "text":
        raise _Malformed(f"{text!r} where a text in double quotes should be")
    return Operand(is_field, text)


_Step: TypeAlias = "Callable[[Row], bool] | Literal['and', 'or', 'not']"


def _compile(shape: Shape, chosen: Filter) -> Sequence[_Step]:
    """Binds the comparisons to the class's fields."""
    attributes = {each.internal_name: each.attribute for each in shape.decl.all_fields}
    named = [
        side for each in chosen.operations if isinstance(each, Equal) for side in (each.left, each.right)
    ]
    for side in named:
        if side.is_field and side.text not in attributes:
            raise invalid_value(chosen.expression, f"{shape.name} has no field {side.text!r}")
    return [each if isinstance(each, str) else _test(each, attributes) for each in chosen.operations]


def _test(operation: Equal | bool, attributes: Mapping[str, str]) -> Callable[[Row], bool]:
    """Makes the function that a comparison or a constant stands for."""
    if isinstance(operation, bool):
        return lambda _: operation
    left, right = (_reader(side, attributes) for side in (operation.left, operation.right))
    return lambda row: left(row) == right(row)


def _reader(side: Operand, attributes: Mapping[str, str]) -> Callable[[Row], str]:
    """Makes the function that gives one side of a comparison as text."""
    if not side.is_field:
        return lambda _: side.text
    attribute = attributes[side.text]
    return lambda row: text_form(getattr(row, attribute))


def _holds(steps: Sequence[_Step], row: Row) -> bool:
    """Evaluates the operations on a row; the stack holds results that wait for their operator."""
    stack: list[bool] = []
    for step in steps:
        if step == "not":
            stack.append(not stack.pop())
        elif isinstance(step, str):
            right, left = stack.pop(), stack.pop()
            stack.append(left and right if step == "and" else left or right)
        else:
            stack.append(step(row))
    return stack[0]


def _index_condition(shape: Shape, chosen: Filter) -> tuple[str, str] | None:
    """Finds a comparison of an indexed field with a literal that must hold for the whole expression to hold.

    Walking back from the last operation, every operand of a chain of `and` must hold; the walk ends at the first
    other operator, because nothing below it must.
    """
    attributes = {each.internal_name: each.attribute for each in shape.decl.all_fields}
    indexed = {*shape.indexed, *(("uuid",) if shape.has_uuid else ())}
    for operation in reversed(chosen.operations):
        if operation in ("and", True):
            continue
        if not isinstance(operation, Equal):
            return None
        for field, literal in ((operation.left, operation.right), (operation.right, operation.left)):
            if field.is_field and not literal.is_field and attributes[field.text] in indexed:
                return attributes[field.text], literal.text
    return None


def text_form(value: Any) -> str:
    """Gives a value as the reference's database writes it, which is what literals are compared with (spec §2.2)."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return str(value)
        case dt.datetime():
            return value.strftime("%Y%m%dT%H:%M:%SZ")
        case tuple():
            return f"({' '.join(_quoted(each) for each in value)})"
        case Mapping():
            return f"({' '.join(f'({_quoted(key)} {_quoted(item)})' for key, item in value.items())})"
        case _:
            return str(value)


def _quoted(member: Any) -> str:
    """Quotes a member of a set or map."""
    escaped = text_form(member).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
