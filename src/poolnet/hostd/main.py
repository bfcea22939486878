"""The program `poolnet-hostd`: reads its configuration, restores the host's network, serves until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from poolnet.hostd.backend import BackendGone
from poolnet.hostd.config import Config, ConfigError, Paths, read_config
from poolnet.hostd.daemon import Daemon

LOG = structlog.stdlib.get_logger("poolnet.hostd")
LEFT_S: Final = 5.0  # for what the daemon's parts have left when it stops


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the daemon; the exit status is 0 after SIGTERM or SIGINT, 1 when it cannot start."""
    paths = Paths()
    parser = argparse.ArgumentParser(
        prog="poolnet-hostd", description="Carries out a host's network, as root."
    )
    parser.add_argument("--config", type=Path, default=paths.config, help="default: %(default)s")
    parser.add_argument("--debug", action="store_true", help="log every program that is run")
    options = parser.parse_args(arguments)
    paths.config = options.config
    _log_to_stderr(logging.DEBUG if options.debug else logging.INFO)
    try:
        asyncio.run(_serve(read_config(options.config), paths))
    except (ConfigError, BackendGone, OSError) as error:
        LOG.error("the daemon cannot start", error=str(error))  # noqa: TRY400 - what is wrong is outside
        return 1
    return 0


async def _serve(config: Config, paths: Paths) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with Daemon(config, paths):
            LOG.info("serving", socket=str(paths.socket))
            _notify("READY=1")
            alive = asyncio.create_task(_keep_telling(), name="watchdog")
            await stop.wait()
            alive.cancel()
            _notify("STOPPING=1")
    finally:
        await _end_what_is_left()


async def _end_what_is_left() -> None:
    """Ends the tasks that are still there when the daemon's parts are closed.

    `asyncio.run` does that too, but cancels with them its own task that connects the pipes of a program which was just
    started, and then waits for that program's end for ever.
    """
    left = {task for task in asyncio.all_tasks() if task is not asyncio.current_task() and _is_ours(task)}
    for task in left:
        LOG.debug("a task is left over", name=task.get_name(), coroutine=repr(task.get_coro()))
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=LEFT_S)


def _is_ours(task: asyncio.Task[Any]) -> bool:
    return not getattr(task.get_coro(), "__qualname__", "").startswith("BaseSubprocessTransport.")


async def _keep_telling() -> None:
    """Tells the service manager that the daemon is not stuck, if it wants to know (sd_watchdog_enabled)."""
    interval_us = os.environ.get("WATCHDOG_USEC", "")
    while interval_us.isdecimal() and int(interval_us):
        _notify("WATCHDOG=1")
        await asyncio.sleep(int(interval_us) / 1e6 / 3)


def _notify(state: str) -> None:
    """Tells the service manager, if there is one (sd_notify)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
            notifier.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


def _log_to_stderr(level: int) -> None:
    """Lines of `key=value`, with the time where no journal adds it."""
    clock = () if "JOURNAL_STREAM" in os.environ else (structlog.processors.TimeStamper(fmt="iso"),)
    structlog.configure(
        processors=[
            *clock,
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(
                key_order=["timestamp", "level", "event"], drop_missing=True, sort_keys=True
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


if __name__ == "__main__":
    sys.exit(main())
