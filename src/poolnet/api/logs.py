"""How does the API server log? One line an event on stderr, for the journal; nothing secret, and no local variables.

The composition root configures it once, before anything is logged.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger


def configure_logs() -> None:
    """Sends events of level INFO and above to stderr, as `key=value` pairs."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _traceback_as_text,
            structlog.processors.LogfmtRenderer(key_order=["level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
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
