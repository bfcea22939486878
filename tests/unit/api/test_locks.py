"""Proofs, explanations and counters of locks: what hosts are asked, and what comes out for clients and for `xe`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from poolnet.api import locks
from poolnet.hostnet import protocol
from poolnet.hostnet.facts import PortFacts
from poolnet.hostnet.state import LockMode
from poolnet.lock.packets import CORPUS
from poolnet.model.classes.network import Network
from poolnet.pool.hostlink import HostGone
from tests.in_process import InProcess, with_server
from tests.unit.api.test_cli_calls import xe

NAMES = tuple(case.name for case in CORPUS)
SPOOFED = "ffffffffffff0200000000010806000108000604000102000000000" + "10a0000090000000000000a000001"


def proved(
    command: protocol.Command, change: Callable[[protocol.PortProof], protocol.PortProof]
) -> protocol.Answer:
    """A host that finds nothing, but for what `change` does to each proof."""
    assert isinstance(command, protocol.VerifyLocks)
    sound = [
        protocol.PortProof(device=port.device, frames=83, passing=NAMES[:30], stopped=NAMES[30:])
        for port in command.ports
    ]
    return protocol.LocksVerified(proofs=tuple(change(proof) for proof in sound))


def networks(server: InProcess) -> list[Network]:
    """The networks of NICs."""
    return sorted((row for row in server.database.view.all(Network) if row.PIFs), key=lambda row: row.bridge)


async def running_vifs(server: InProcess, count: int = 1) -> list[str]:
    """The uuids of the VIFs of as many running VMs, locked."""
    network = networks(server)[0]
    uuids = []
    for number in range(count):
        vm = (await xe(server, "vm-create", f"name-label=vm{number}")).out.strip()
        made = await xe(server, "vif-create", f"vm-uuid={vm}", f"network-uuid={network.uuid}", "device=0")
        uuids.append(made.out.strip())
        locked = await xe(
            server,
            "vif-param-set",
            f"uuid={uuids[-1]}",
            "locking-mode=locked",
            f"ipv4-allowed=10.0.0.{number + 1}",
        )
        started = await xe(server, "vm-start", f"uuid={vm}")
        assert (locked.code, started.code) == (0, 0), (locked.err, started.err)
    return uuids


def test_hosts_are_asked_in_portions_for_what_the_database_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "VERIFY_PORTS_MAX", 2)

    async def body(server: InProcess) -> None:
        await running_vifs(server, 3)
        server.host.answer = lambda command: proved(command, lambda proof: proof)
        said = await xe(server, "vif-lock-verify", "--all")
        assert said.code == 0
        assert said.out.splitlines()[-1] == "3 proved; 249 packets were traced"
        commands = [one for one in server.host.asked if isinstance(one, protocol.VerifyLocks)]
        assert [(len(one.ports), one.rules) for one in commands] == [(2, True), (1, False)]
        assert {port.lock.mode for one in commands for port in one.ports} == {LockMode.LOCKED}

    with_server(tmp_path, body)


def test_a_packet_that_passes_and_must_not_is_shown_and_the_command_fails(tmp_path: Path) -> None:
    wrong = protocol.ClassFound(name="A05", frame_hex=SPOOFED, forwarded=True, counted="", wanted=False)

    async def body(server: InProcess) -> None:
        uuids = await running_vifs(server, 2)
        server.host.answer = lambda command: proved(
            command, lambda proof: replace_proof(proof, wrong) if proof.device == "vif2.0" else proof
        )
        said = await xe(server, "vif-lock-verify", "--all")
        assert said.code == 1
        lines = said.out.splitlines()
        at = lines.index(f"VIF 0 of vm1 ({uuids[1]}): not proved")
        assert lines[at + 1 : at + 4] == [
            "  A05   ARP request from the victim's ip: passes, and must not",
            "        ARP request of 10.0.0.9 at 02:00:00:00:00:01 for 10.0.0.1, from MAC 02:00:00:00:00:01 to ff:ff:ff:ff:ff:ff",
            f"        packet={SPOOFED}",
        ]
        assert (await xe(server, "vif-lock-verify", "--all", "--minimal")).out == f"{uuids[1]}\n"
        as_json = await xe(server, "vif-lock-verify", "--all", "--json")
        assert as_json.code == 1
        answer = json.loads(as_json.out)
        assert [vif["verdict"] for vif in answer["vifs"]] == ["proved", "not proved"]
        assert answer["vifs"][1]["wrong"][0]["frame"] == SPOOFED

    with_server(tmp_path, body)


def replace_proof(proof: protocol.PortProof, wrong: protocol.ClassFound) -> protocol.PortProof:
    return protocol.PortProof(device=proof.device, frames=proof.frames, wrong=(wrong,))


def test_rules_that_should_not_be_there_fail_all_they_concern(tmp_path: Path) -> None:
    def answer(command: protocol.Command) -> protocol.Answer:
        sound = proved(command, lambda proof: proof)
        assert isinstance(sound, protocol.LocksVerified)
        rules = (
            protocol.RuleFound(device="vif2.0", bridge="b", text="a flow of vif2.0"),
            protocol.RuleFound(device="vif9.0", bridge="b", text="a flow of vif9.0"),
        )
        return protocol.LocksVerified(proofs=sound.proofs, rules=rules)

    async def body(server: InProcess) -> None:
        uuids = await running_vifs(server, 2)
        server.host.answer = answer
        first = await xe(server, "vif-lock-verify", f"uuid={uuids[0]}")
        assert first.code == 0
        second = await xe(server, "vif-lock-verify", f"uuid={uuids[1]}")
        assert second.code == 1
        assert "  a flow of vif2.0\n" in second.out
        assert "vif9.0" not in second.out

    with_server(tmp_path, body)


def test_a_lock_that_is_being_changed_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "AGAIN_S", 0.0)
    times = iter((True, True, False))

    async def body(server: InProcess) -> None:
        uuids = await running_vifs(server)
        server.host.answer = lambda command: proved(
            command, lambda proof: protocol.PortProof(device=proof.device, is_changing=next(times, False))
        )
        assert (await xe(server, "vif-lock-verify", f"uuid={uuids[0]}")).code == 0
        server.host.answer = lambda command: proved(
            command, lambda proof: protocol.PortProof(device=proof.device, is_changing=True)
        )
        stays = await xe(server, "vif-lock-verify", f"uuid={uuids[0]}")
        assert stays.code == 1
        assert "the host holds another lock for vif1.0 than the database" in stays.out

    with_server(tmp_path, body)


def test_of_a_host_that_cannot_say_nothing_is_proved(tmp_path: Path) -> None:
    def answer(_: protocol.Command) -> protocol.Answer:
        raise HostGone("it is down")

    async def body(server: InProcess) -> None:
        (uuid,) = await running_vifs(server)
        server.host.answer = answer
        said = await xe(server, "vif-lock-verify", "--all")
        assert said.code == 1
        assert f"VIF 0 of vm0 ({uuid}): not proved\n  its host cannot say what it sends\n" in said.out
        assert "  the host cannot say: it is down\n" in said.out
        for command in (["vif-lock-explain", "packet=arp"], ["vif-lock-counters"]):
            assert (await xe(server, *command, f"uuid={uuid}")).code == 1

    with_server(tmp_path, body)


def test_which_vifs_are_meant_must_be_said_in_one_way(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        uuids = await running_vifs(server)
        server.host.answer = lambda command: proved(command, lambda proof: proof)
        network = networks(server)
        for words in ([], ["--all", f"uuid={uuids[0]}"]):
            assert "Exactly one of" in (await xe(server, "vif-lock-verify", *words)).err
        assert (await xe(server, "vif-lock-verify", f"network-uuid={network[0].uuid}")).code == 0
        assert (
            "no VIFs on this network"
            in (await xe(server, "vif-lock-verify", f"network-uuid={network[1].uuid}")).err
        )
        assert (await xe(server, "vif-lock-verify", "uuid=nope")).code == 1

    with_server(tmp_path, body)


def test_a_vif_that_is_not_plugged_or_disabled_is_said_to_be(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        (uuid,) = await running_vifs(server)
        server.host.answer = lambda command: proved(
            command, lambda proof: protocol.PortProof(device=proof.device)
        )
        await xe(server, "vif-param-set", f"uuid={uuid}", "locking-mode=disabled")
        disabled = await xe(server, "vif-lock-verify", f"uuid={uuid}")
        assert f"VIF 0 of vm0 ({uuid}): disabled" in disabled.out
        asked = server.host.asked[-1]
        assert isinstance(asked, protocol.VerifyLocks)
        assert asked.ports[0].lock.mode is LockMode.DISABLED
        explained = await xe(server, "vif-lock-explain", f"uuid={uuid}", "packet=arp")
        assert explained.err.startswith("The device is not plugged.")
        await xe(server, "vif-unplug", f"uuid={uuid}")
        assert f"({uuid}): not plugged" in (await xe(server, "vif-lock-verify", f"uuid={uuid}")).out

    with_server(tmp_path, body)


def test_a_packet_is_explained_by_the_lock_and_by_the_switch(tmp_path: Path) -> None:
    def answer(command: protocol.Command, *, forwarded: bool = False) -> protocol.Answer:
        assert isinstance(command, protocol.TracePacket)
        return protocol.Traced(
            forwarded=forwarded, text="the switch's own words", counted="arp", path=("table 0", "table 11")
        )

    async def body(server: InProcess) -> None:
        (uuid,) = await running_vifs(server)
        server.host.answer = answer
        said = await xe(server, "vif-lock-explain", f"uuid={uuid}", "packet=arp spa=10.0.0.9")
        assert said.code == 0
        lines = said.out.splitlines()
        assert lines[0] == f"VIF 0 of vm0 ({uuid}), locked"
        assert lines[1].startswith("packet  ARP request of 10.0.0.9 at ")
        assert lines[2].startswith("lock    stopped: it says that 10.0.0.9 is at ")
        assert lines[3:] == ["switch  stopped, counted as arp", "        table 0", "        table 11"]
        server.host.answer = lambda command: answer(command, forwarded=True)
        other = await xe(server, "vif-lock-explain", f"uuid={uuid}", "packet=arp spa=10.0.0.9")
        assert other.code == 1
        assert other.out.splitlines()[-1].startswith("The switch does not do what the lock says")
        bad = await xe(server, "vif-lock-explain", f"uuid={uuid}", "packet=nonsense")
        assert bad.code == 1
        assert "'nonsense' is no kind of packet" in bad.err

    with_server(tmp_path, body)


def test_counters_are_listed_by_reason_without_zeros(tmp_path: Path) -> None:
    def answer(command: protocol.Command) -> protocol.Answer:
        assert isinstance(command, protocol.ReadCounters)
        facts = PortFacts(device=command.devices[0], dropped=(("arp", 3), ("mac", 0)))
        return protocol.Counters(ports=(facts,))

    async def body(server: InProcess) -> None:
        (uuid,) = await running_vifs(server)
        server.host.answer = answer
        said = (await xe(server, "vif-lock-counters", f"uuid={uuid}")).out
        fields = [line.replace("( RO)", "").split(":") for line in said.splitlines() if line]
        assert {name.strip(): text.strip() for name, text in fields} == {
            "uuid": uuid,
            "vm-name-label": "vm0",
            "device": "0",
            "locking-mode": "locked",
            "dropped": "3",
            "dropped-arp": "3",
        }

    with_server(tmp_path, body)
