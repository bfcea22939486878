"""In which ways does a command end other than well, besides a failed API call?

Every module of the command line raises these (spec xe-cli §4.1); `commands.run` turns them into texts. A failed API call is
`poolnet.model.errors.Failure`.
"""

from __future__ import annotations


class Refused(Exception):
    """A check of the command line itself failed: "Error: TEXT"."""


class BadSyntax(Exception):
    """The words cannot be parsed."""


class UnknownCommand(Exception):
    """There is no such command; the argument is its name."""


class MissingParameter(Exception):
    """A required parameter is not there; the argument is its name."""


class UnknownParamName(Exception):
    """`param-name=` names no field; the argument is the name."""


class Finished(Exception):
    """The command has written all that it had to say and ends with this exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
