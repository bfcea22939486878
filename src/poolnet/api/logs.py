"""How does the API server log? One line an event on stderr, for the journal; nothing secret, and no local variables.

The composition root configures it once, before anything is logged.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger


def configure_logs(stream: TextIO) -> None:
    """Writes events of level INFO and above to a stream, as `key=value` pairs, with the time where no journal adds it."""
    clock = () if "JOURNAL_STREAM" in os.environ else (structlog.processors.TimeStamper(fmt="iso"),)
    structlog.configure(
        processors=[
            *clock,
            structlog.processors.add_log_level,
            _traceback_as_text,
            _one_line,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], drop_missing=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(stream),
    )


def _traceback_as_text(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Puts an exception in as its plain traceback: places and texts, not the values of variables (passwords)."""
    exc_info: Any = event.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    if isinstance(exc_info, tuple) and exc_info[1] is not None:
        event["exception"] = "".join(traceback.format_exception(exc_info[1]))
    return event


def _one_line(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escapes what could end a line or command a terminal: user names and errors come from anywhere."""
    return {key: _escaped(value) for key, value in event.items()}


def _escaped(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    # A newline is left to the renderer, which escapes it itself.
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(value)
    )
