"""Which options of NICs and bridges' interfaces have we changed, and what were they before?

`apply` carries out SetLink steps here, for every backend, and adds what is observed to what the backend observes. What an
interface was like when we first changed it is kept on disk, so that an option that nobody asks for any more goes back to
that. A value that a driver does not take is noted as refused and counts as there: a NIC that cannot do something does
without, as in the reference.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import structlog

from poolnet.hostd import ethtool
from poolnet.hostd.checkpoint import read_state, write_durably
from poolnet.hostd.netlink import index_of
from poolnet.hostnet.state import LinkSettings
from poolnet.hostnet.steps import SetLink, Step

LOG = structlog.stdlib.get_logger("poolnet.hostd.link_settings")


class _Option(msgspec.Struct, kw_only=True):
    """An option that we changed: what is asked, what was found ("" unknown), and whether the driver refused."""

    asked: str
    found: str
    refused: bool = False


class Links:
    """The options of this host's interfaces."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "links.json"
        self._kept = read_state(self._path, dict[str, dict[str, _Option]], {})

    def observe(self) -> tuple[LinkSettings, ...]:
        """The options that we have changed, as they are now; of interfaces that exist."""
        if not self._kept:
            return ()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            return tuple(
                LinkSettings(name=name, values=_as_observed(self._kept[name], ethtool.read(asked, name)))
                for name in sorted(self._kept)
                if self._kept[name] and index_of(name) is not None
            )

    def rename_nics(self, names: Mapping[str, str]) -> None:
        """Follows the new names of NICs. Raises OSError."""
        if names.keys() & self._kept.keys():
            self._kept = {names.get(name, name): options for name, options in self._kept.items()}
            self._store()

    def apply(self, steps: Iterable[Step], *, strict: bool = True) -> None:
        """Carries out what the steps say about options.

        Raises OSError when it cannot be written down; without `strict` it is carried out nevertheless.
        """
        changes = [step for step in steps if isinstance(step, SetLink)]
        if not changes:
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            for step in changes:
                self._note(step, ethtool.read(asked, step.name))
            self._store(strict)  # before anything changes: what was found is not found again
            for step in changes:
                self._change(asked, step)
        self._store(strict)

    def _note(self, step: SetLink, there: dict[str, str]) -> None:
        options = self._kept.setdefault(step.name, {})
        for key, value in step.new:
            known = options.get(key)
            options[key] = _Option(
                asked=value, found=known.found if known is not None else there.get(key, "")
            )

    def _change(self, asked: socket.socket, step: SetLink) -> None:
        options = self._kept[step.name]
        wanted = dict(step.new)
        gone = {key: option.found for key, option in options.items() if key not in wanted}
        values = {key: value for key, value in gone.items() if value} | wanted
        there = ethtool.read(asked, step.name)
        link = {key: value for key, value in values.items() if key in ethtool.LINK_KEYS}
        if any(value != there.get(key) for key, value in link.items()):
            ethtool.write_link(asked, step.name, link)
        for key in ethtool.OFFLOAD_KEYS:
            if key in values and values[key] != there.get(key):
                ethtool.write_offload(asked, step.name, key, values[key])
        for key in gone:
            del options[key]
        there = ethtool.read(asked, step.name)
        for key, option in options.items():
            option.refused = there.get(key) != option.asked
            if option.refused and index_of(step.name) is not None:
                LOG.warning(
                    "an interface does not take an option", name=step.name, option=key, value=option.asked
                )
        if not options:
            del self._kept[step.name]

    def _store(self, strict: bool = True) -> None:
        try:
            write_durably(self._path, msgspec.json.encode(self._kept))
        except OSError as error:
            if strict:
                raise
            LOG.warning("the options of interfaces cannot be written down", error=str(error))


def _as_observed(options: dict[str, _Option], there: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (key, option.asked if option.refused else there.get(key, option.asked))
        for key, option in sorted(options.items())
    )
