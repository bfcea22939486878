"""A private Open vSwitch with two ports whose other ends the test holds, to send and to capture real frames.

It runs in the calling thread's network namespace (see `own_network`), in a directory of its own, with the
userspace datapath; nothing of it outlives the `with` block.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from poolnet.lock.flows import Flow

BRIDGE: Final = "br0"
UPLINK, GUEST = "eth0", "vif1.0"
UPLINK_PEER, GUEST_PEER = "peer0", "guest0"
UPLINK_PORT = 1
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
ETH_P_ALL, SOL_PACKET, PACKET_AUXDATA, PACKET_OUTGOING = 3, 263, 8, 4
TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 1 << 4, 1 << 6


class ScratchSwitch:
    """Commands to the switch, and the two ends of its cables."""

    def __init__(self, directory: Path, guest: socket.socket, uplink: socket.socket) -> None:
        self._directory = directory
        self._guest = guest
        self._uplink = uplink

    def vsctl(self, *words: str) -> str:
        return self._run("ovs-vsctl", "--timeout=20", f"--db=unix:{self._directory}/db.sock", *words)

    def ofctl(self, *words: str, text: str = "") -> str:
        return self._run("ovs-ofctl", "-O", "OpenFlow14", "--no-names", *words, text=text)

    def replace_flows(self, flows: Iterable[Flow], *, settle: bool = True) -> None:
        """Exactly these rules from now on, in one bundle; afterwards nothing is cached of the old ones (`settle`)."""
        text = "".join(f"{flow.text()}\n" for flow in flows)
        self.ofctl("--bundle", "replace-flows", self.management, "-", text=text)
        if settle:
            self.appctl("revalidator/wait")

    @property
    def management(self) -> str:
        return f"unix:{self._directory}/{BRIDGE}.mgmt"

    def appctl(self, method: str, *words: str) -> str:
        """One command over the daemon's control socket (JSON-RPC), without a process."""
        control = next(self._directory.glob("ovs-vswitchd.*.ctl"))
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(20)
            link.connect(str(control))
            link.sendall(json.dumps({"id": 0, "method": method, "params": words}).encode())
            answer = b""
            while True:
                answer += link.recv(1 << 16)
                try:
                    reply = json.loads(answer)
                except ValueError:
                    continue
                assert reply["error"] is None, reply
                return str(reply["result"])

    def trace_admits(self, frame: bytes, in_port: int, table: int) -> bool:
        """Does the frame reach this table, by the switch's own account?"""
        text = self.appctl("ofproto/trace", BRIDGE, f"in_port={in_port}", frame.hex())
        return any(line.lstrip().startswith(f"{table}. ") for line in text.splitlines())

    def packets_by_table(self, cookie: int) -> dict[int, int]:
        """How many packets the rules with this cookie have met, by table; zeros left out."""
        self.appctl("revalidator/purge")
        counts: dict[int, int] = {}
        for line in self.ofctl("dump-flows", self.management, f"cookie={cookie:#x}/-1").splitlines()[1:]:
            words = dict(word.split("=", 1) for word in line.replace(",", " ").split() if "=" in word)
            if int(words["n_packets"]):
                table = int(words.get("table", "0"))
                counts[table] = counts.get(table, 0) + int(words["n_packets"])
        return counts

    def deliver(
        self, frame: bytes, sentinel: bytes, *, backwards: bool = False
    ) -> list[tuple[int | None, bytes]]:
        """Send `frame` from the guest; what comes out at the uplink, as (VLAN tag, frame without tag).

        `sentinel` is a frame that certainly comes out: the switch keeps the order, so there is no need to
        wait longer. `backwards` sends from the uplink and captures at the guest.
        """
        sender, receiver = (self._uplink, self._guest) if backwards else (self._guest, self._uplink)
        sender.send(frame)
        sender.send(sentinel)
        seen: list[tuple[int | None, bytes]] = []
        while True:
            tag, received = receive(receiver)
            if received in (sentinel, sentinel[:12] + sentinel[16:]):  # the kernel takes its tag out
                return seen
            seen.append((tag, received))

    def _run(self, *words: str, text: str = "") -> str:
        environment = {**os.environ, "OVS_RUNDIR": str(self._directory)}
        done = subprocess.run(words, input=text, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout


def receive(link: socket.socket) -> tuple[int | None, bytes]:
    """The next frame that arrives, and its tag, which the kernel has taken out of it."""
    while True:
        data, ancillary, _, address = link.recvmsg(1 << 16, 256)
        if address[2] == PACKET_OUTGOING:
            continue
        for level, kind, content in ancillary:
            if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                status, tag = struct.unpack_from("=I12xH", content)
                if status & TP_STATUS_VLAN_VALID:
                    return tag & 0xFFF, data
        return None, data


@contextmanager
def scratch_switch(directory: Path, guest_port: int, options: Sequence[str] = ()) -> Iterator[ScratchSwitch]:
    """A running switch: a secure bridge, an uplink (port 1), a guest port with `options` (`tag=10`)."""
    with ExitStack() as stack:
        for path in ("all", "default"):
            Path(f"/proc/sys/net/ipv6/conf/{path}/disable_ipv6").write_text("1")
        for near, far in ((UPLINK, UPLINK_PEER), (GUEST, GUEST_PEER)):
            _call("ip", "link", "add", near, "type", "veth", "peer", "name", far)
            for end in (near, far):
                _call("ip", "link", "set", end, "mtu", "2000", "arp", "off", "up")
        _start_daemons(stack, directory)
        sockets = [stack.enter_context(raw_socket(name)) for name in (GUEST_PEER, UPLINK_PEER)]
        switch = ScratchSwitch(directory, *sockets)
        bridge = ("set", "bridge", BRIDGE, "datapath_type=netdev", "fail_mode=secure")
        switch.vsctl("add-br", BRIDGE, "--", *bridge)
        for name, number, extra in ((UPLINK, UPLINK_PORT, ()), (GUEST, guest_port, options)):
            interface = ("set", "interface", name, f"ofport_request={number}")
            switch.vsctl("add-port", BRIDGE, name, *extra, "--", *interface)
        switch.ofctl("set-frags", switch.management, "nx-match")
        yield switch


def _start_daemons(stack: ExitStack, directory: Path) -> None:
    database, socket_path = directory / "conf.db", directory / "db.sock"
    _call("ovsdb-tool", "create", str(database), str(SCHEMA))
    environment = {**os.environ, "OVS_RUNDIR": str(directory)}
    server = ["ovsdb-server", str(database), f"--remote=punix:{socket_path}"]
    switch = ["ovs-vswitchd", f"unix:{socket_path}"]
    for name, command in (("ovsdb-server", server), ("ovs-vswitchd", switch)):
        files = (f"--log-file={directory}/{name}.log", f"--pidfile={directory}/{name}.pid", "-vconsole:off")
        daemon = subprocess.Popen([*command, *files], env=environment, stderr=subprocess.DEVNULL)
        stack.callback(_stop, daemon)
        if name == "ovsdb-server":
            wait = ("ovs-vsctl", "--retry", "--timeout=20", f"--db=unix:{socket_path}", "--no-wait", "init")
            _call(*wait)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    daemon.wait(20)


def raw_socket(interface: str) -> socket.socket:
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    link.bind((interface, 0))
    link.settimeout(20)
    link.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    return link


def _call(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
