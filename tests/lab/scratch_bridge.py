"""A private Linux bridge with an uplink and two guests' ports whose other ends the test holds.

It runs in the calling thread's network namespace (see `own_network`) and goes with it.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, cast

from tests.lab.scratch_switch import raw_socket, receive

BRIDGE: Final = "br0"
Arrival = tuple[int | None, bytes]  # VLAN tag, frame without it
UPLINK, GUEST, OTHER_GUEST = "eth0", "vif1.0", "tap2"


class ScratchBridge:
    """The far ends of the bridge's cables, by the name of the near end; and the host's own interface."""

    def __init__(self, links: dict[str, socket.socket]) -> None:
        self._links = links

    def nft(self, *texts: str) -> None:
        """One transaction for each text."""
        for text in texts:
            self._transact(text)

    def _transact(self, text: str) -> None:
        done = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.stderr, text)

    def listing(self) -> dict[str, Any]:
        """The table of the locks as `nft -j` shows it."""
        words = ["nft", "-j", "list", "table", "bridge", "poolnet"]
        listed: dict[str, Any] = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
        return listed

    def elements(self) -> list[tuple[object, list[str]]]:
        """The sets and maps of the table without what they have counted, as far as `nft` lists it."""
        listed = cast(dict[str, list[dict[str, dict[str, object]]]], self.listing())["nftables"]
        sets = [item.get("set") or item.get("map") or {} for item in listed]
        return [
            (item["name"], sorted(map(str, cast(list[object], item.get("elem", [])))))
            for item in sets
            if item and not str(item["name"]).startswith("dropped_")
        ]

    def send(self, source: str, frame: bytes) -> None:
        """Send a frame into a port, or from the host into the bridge."""
        self._links[source].send(frame)

    @contextmanager
    def changing(self, texts: Sequence[str], times: int) -> Iterator[Callable[[], bool]]:
        """Apply these transactions one after the other, again and again, beside what the body does."""

        def apply() -> None:
            for _ in range(times):
                self.nft(*texts)

        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(apply)
            yield lambda: not work.done()
            work.result()

    def deliver(self, frame: bytes, sentinel: bytes) -> list[Arrival]:
        """Send `frame` from the guest; what comes out at the uplink. See `arrivals`."""
        return self.arrivals([frame], sentinel)[UPLINK]

    def arrivals(
        self, frames: Sequence[bytes], sentinel: bytes, *, source: str = GUEST, at: Sequence[str] = (UPLINK,)
    ) -> dict[str, list[Arrival]]:
        """Send the frames into the port `source`; what comes out at these ports.

        `sentinel` is a frame that certainly comes out: a bridge keeps the order, so there is no need to wait longer.
        What comes out at other ports is kept there: a test should ask the same ones always.
        """
        for frame in (*frames, sentinel):
            self.send(source, frame)
        return {port: list(self._until(sentinel, port)) for port in at}

    def _until(self, sentinel: bytes, port: str) -> Iterator[Arrival]:
        while True:
            tag, received = receive(self._links[port])
            if received in (sentinel, sentinel[:12] + sentinel[16:]):  # the kernel takes its tag out
                return
            yield tag, received

    def learned(self, mac: str) -> str:
        """The port behind which the bridge believes this MAC to be; "" if it knows none."""
        words = ["bridge", "-j", "fdb", "show", "br", BRIDGE]
        entries = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
        return next((str(entry["ifname"]) for entry in entries if entry["mac"] == mac), "")


@contextmanager
def scratch_bridge(*, learning: bool = True) -> Iterator[ScratchBridge]:
    """A running bridge, without any lock. One that does not learn sends every frame to all ports."""
    for name in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
    for path in Path("/proc/sys/net/bridge").glob("bridge-nf-call-*"):
        path.write_text("0")  # or the host's IP filters see the frames too, and cut their padding off
    _call("ip", "link", "add", BRIDGE, "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
    with ExitStack() as stack:
        links = {}
        for number, near in enumerate((UPLINK, GUEST, OTHER_GUEST)):
            far = f"far{number}"
            _call(
                "ip", "link", "add", near, "mtu", "2000", "type", "veth", "peer", "name", far, "mtu", "2000"
            )
            _call("ip", "link", "set", near, "arp", "off", "master", BRIDGE, "up")
            _call("bridge", "link", "set", "dev", near, "learning", "on" if learning else "off")
            _call("ip", "link", "set", far, "arp", "off", "up")
            links[near] = stack.enter_context(raw_socket(far))
        _call("ip", "link", "set", BRIDGE, "arp", "off", "up")
        links[BRIDGE] = stack.enter_context(raw_socket(BRIDGE))
        _await_forwarding()
        yield ScratchBridge(links)


def _await_forwarding() -> None:
    """The kernel tells the bridge a little later that a cable is plugged in."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        done = subprocess.run(["bridge", "-j", "link", "show"], capture_output=True, check=True)
        if all(port["state"] == "forwarding" for port in json.loads(done.stdout)):
            return
        time.sleep(0.01)
    raise AssertionError("the ports of the bridge never came up")


def _call(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
