"""How does a call fail? The exception that carries an error of the API, and how its kinds are declared."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, ParamSpec, TypeAlias

P = ParamSpec("P")
Parameters: TypeAlias = tuple[str, ...]


class Failure(Exception):
    """An error of the API: what a client gets is the code, then the parameters, all texts."""

    def __init__(self, code: str, *params: str) -> None:
        super().__init__(code, *params)
        self.code = code
        self.params: Parameters = params

    def __str__(self) -> str:
        """Gives it as the specification writes it: CODE[first; second]."""
        return f"{self.code}[{'; '.join(self.params)}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorDecl:
    """A documented code: how its parameters are called when people read them, and what it means.

    The parameters that are really sent can differ in number and meaning (spec §27).
    """

    code: str
    params: tuple[str, ...]
    description: str


DOCUMENTED: Final[dict[str, ErrorDecl]] = {}
"""The documented codes that have a function; `error` fills it while the modules that use it are loaded."""

UNDOCUMENTED: Final[set[str]] = set()
"""The codes that have a function, but no documentation; filled by `undocumented_error`."""


def error(*params: str, description: str = "") -> Callable[[Callable[P, Parameters]], Callable[P, Failure]]:
    """Makes a failure of the function's parameters: its name is the code.

    Args:
        params: how the documentation calls the code's parameters.
        description: the exact text that clients know; without it, the docstring is the description.
    """

    def decorate(parameters: Callable[P, Parameters]) -> Callable[P, Failure]:
        code = parameters.__name__.upper()
        text = description or parameters.__doc__ or ""
        DOCUMENTED[code] = ErrorDecl(code=code, params=params, description=text)
        return _failure_of(code, parameters)

    return decorate


def undocumented_error(parameters: Callable[P, Parameters]) -> Callable[P, Failure]:
    """Makes a failure, as `error` does, whose code the API's documentation leaves out."""
    code = parameters.__name__.upper()
    UNDOCUMENTED.add(code)
    return _failure_of(code, parameters)


def _failure_of(code: str, parameters: Callable[P, Parameters]) -> Callable[P, Failure]:
    """Wraps a function that gives parameters into one that gives the failure."""

    @functools.wraps(parameters)
    def failure(*args: P.args, **kwargs: P.kwargs) -> Failure:
        return Failure(code, *parameters(*args, **kwargs))

    return failure
