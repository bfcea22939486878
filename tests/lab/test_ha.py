"""High availability: a host that is cut off, hung or dead is silent before its VMs run elsewhere, and no VM ever runs twice.

What is sent is captured at the physical switch's ports, with the time: all ports belong to one machine, and so to one clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import pytest

from poolnet.lab import life, machine
from poolnet.lab.state import LabError, switch_port
from tests.lab import cluster_load, survival
from tests.lab.pools import answer, host_uuid, live, xe
from tests.lab.running import RunningLab, running_lab
from tests.lab.trains import Capture
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HOSTS = ("host1", "host2", "host3")
TIMEOUT_S = 7
DELAY_S = 2
SILENCE_S = 5.0
POOLNET = "bin/poolnet-(api|hostd|db)|cluster/pool.ovsdb"
GUARD = "fence_guard"
SWITCH = "^ovs-vswitchd|openvswitch/conf.db"


class Pool:
    """Three hosts with high availability, and VMs on the network of `eth1`."""

    def __init__(self, lab: RunningLab) -> None:
        self.lab = lab
        self.ask = asyncio.run(cluster_load.whole(lab))
        """The host whose console is asked."""
        self.network = lab.xe(
            self.ask,
            "pif-list",
            f"host-name-label={self.ask}",
            "device=eth1",
            "params=network-uuid",
            "--minimal",
        )
        self.vms: dict[str, str] = {}
        self.numbers: dict[str, int] = {}

    def vm(self, name: str, host: str, priority: str, order: int = 0) -> None:
        """A VM that runs on that host."""
        lab = self.lab
        vm = self.vms[name] = lab.xe(self.ask, "vm-create", f"name-label={name}")
        self.numbers[name] = len(self.vms)
        lab.xe(self.ask, "vif-create", f"vm-uuid={vm}", f"network-uuid={self.network}", "device=0")
        lab.xe(self.ask, "vm-param-set", f"uuid={vm}", f"ha-restart-priority={priority}", f"order={order}")
        lab.xe(self.ask, "vm-start", f"uuid={vm}", f"on={host}")
        self.give_address(name)

    def address(self, name: str) -> str:
        return f"10.9.0.{self.numbers[name]}"

    def give_address(self, name: str) -> None:
        """A guest that was started again knows nothing of its addresses: it has no disk here."""
        self.lab.guest(name, "ip", "address", "replace", f"{self.address(name)}/24", "dev", "eth0")

    def vif(self, name: str, *words: str) -> str:
        return self.lab.xe(self.ask, "vif-list", f"vm-name-label={name}", *words, "--minimal")

    def where(self, name: str) -> str:
        """The host that the database says; "" for none."""
        uuid = answer(self.lab, self.ask, "vm-list", f"name-label={name}", "params=resident-on", "--minimal")
        return (
            answer(self.lab, self.ask, "host-list", f"uuid={uuid}", "params=name-label", "--minimal")
            if uuid
            else ""
        )

    def domid(self, name: str) -> str:
        return answer(self.lab, self.ask, "vm-param-get", f"uuid={self.vms[name]}", "param-name=dom-id")

    def alerts(self) -> list[str]:
        return answer(self.lab, self.ask, "message-list", "params=name", "--minimal").split(",")

    def others(self, *hosts: str) -> list[str]:
        return [host for host in HOSTS if host not in hosts]

    def restarted(self, name: str, gone: str) -> str:
        """Waits until a VM runs on another host, and answers there; which one."""
        eventually(lambda: self.where(name) not in ("", gone), f"{name} is not restarted")
        there = self.where(name)
        eventually(
            lambda: guests_on(self.lab, there).get(name) == "running", f"{name} does not run on {there}"
        )
        eventually(lambda: self._answers(name), f"{name} does not answer")
        return there

    def _answers(self, name: str) -> bool:
        with suppress(AssertionError, LabError):
            for each in (name, "peer"):
                self.give_address(each)
            loud = ("ping", "-n", "-b", "-c", "1", "-W", "0.1", "10.9.0.255")
            self.lab.guest(name, *loud, check=False)  # heard on the cable, also beside its peer
            return self.lab.pings("peer", self.address(name))
        return False

    def back(self, host: str) -> None:
        """Waits until a host is whole again, and a lease is what all have."""
        eventually(lambda: host in live(self.lab, self.ask), f"{host} does not come back")
        eventually(lambda: self.holders() == set(HOSTS), "not all have leases")

    def holders(self) -> set[str]:
        """The hosts that see both others, as the database says."""
        listed = answer(self.lab, self.ask, "host-list", "params=name-label,ha-network-peers")
        blocks = re.findall(r"name-label[^:]*: (\S+)\n\s*ha-network-peers[^:]*: (.*)", listed)
        return {name for name, peers in blocks if peers.count("; ") == 1}


def guests_on(lab: RunningLab, host: str) -> dict[str, str]:
    """The guests that live on a host, and their states."""
    found = {}
    for path in (lab.lab.directory / host / "run/poolnet/guests").glob("*.json"):
        with suppress(FileNotFoundError):
            guest = json.loads(path.read_text())
            if guest["state"] != "stopped":
                found[guest["name"]] = guest["state"]
    return found


def lease_until_ns(lab: RunningLab, host: str) -> int:
    """Until when a host has its lease."""
    return int(json.loads((lab.lab.directory / host / "run/poolnet/lease.json").read_bytes())["until_ns"])


def guest_record(lab: RunningLab, host: str, name: str) -> dict[str, Any]:
    """What a host's daemon has written down of a guest."""
    for path in (lab.lab.directory / host / "run/poolnet/guests").glob("*.json"):
        guest: dict[str, Any] = json.loads(path.read_text())
        if guest["name"] == name:
            return guest
    raise AssertionError(f"{name} is not on {host}")


def guest_started_s(lab: RunningLab, host: str, name: str) -> float:
    """When the process that is a guest has started, by the clock of the machine, which all hosts have."""
    return float(guest_record(lab, host, name)["started"]) / os.sysconf("SC_CLK_TCK")


def living_guests(lab: RunningLab, host: str) -> int:
    """How many guests' processes there are on a host, whatever its daemon knows of them."""
    processes = Path(f"/proc/{lab.lab.host(host).pid}/root/proc")
    records = (lab.lab.directory / host / "run/poolnet/guests").glob("*.json")
    return sum((processes / str(json.loads(path.read_text())["pid"])).exists() for path in records)


def raised_vifs(lab: RunningLab, host: str) -> list[str]:
    listed = lab.run(host, "ip", "-o", "link", "show", "up", check=False).splitlines()
    return [line for line in listed if ": vif" in line]


def signalled(lab: RunningLab, host: str, name: str, pattern: str) -> None:
    """Sends a signal to the programs of a host whose command line matches; there must be one."""
    lab.run(host, "pkill", f"-{name}", "-f", pattern)


class Frames:
    """What a VM sends, captured where it enters the physical switch, for each host."""

    def __init__(self, pool: Pool, name: str) -> None:
        self._pool = pool
        self._name = name
        self._stack = ExitStack()
        self._captures: dict[str, Capture] = {}

    def __enter__(self) -> Self:
        lab, mac = self._pool.lab, self._pool.vif(self._name, "params=MAC")
        for host in HOSTS:
            port = switch_port(host, "eth1")
            filtered = ("-Q", "in", "-tt", "ether", "src", mac)
            capture = Capture(survival.on_switch(lab), port, *filtered)
            self._captures[host] = self._stack.enter_context(capture)
        words = ("ping", "-n", "-b", "-i", "0.05", "10.9.0.255")
        self._stack.enter_context(survival.running((*survival.in_guest(lab, self._name), *words)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def times(self, host: str) -> list[float]:
        lines = self._captures[host].output.splitlines()
        return [float(found[0]) for line in lines if (found := re.match(r"\d{9,}\.\d+", line))]


def assert_one_after_the_other(frames: Frames, old: str, new: str, cut_off: float) -> None:
    """The old host was silent before the new one sent anything, and no later than its lease allows."""
    before, after = frames.times(old), frames.times(new)
    assert len(before) > 5, "it sent nothing before"
    assert after, "it sends nothing now"
    assert max(before) < min(after)
    assert max(before) < cut_off + TIMEOUT_S + 1.0, "it was not silenced in time"
    for host in HOSTS:
        assert host in (old, new) or not frames.times(host)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with running_lab(hosts=3, nics=2, pool=True, silence_s=SILENCE_S) as lab:
        code, said = xe(lab, "host1", "pool-ha-enable")
        assert code == 1
        assert "pool-cluster-enable" in said, "without a cluster it says what it needs"
        asyncio.run(cluster_load.enable(lab))
        one = Pool(lab)
        one.vm("peer", one.ask, "restart")
        lab.xe(one.ask, "pool-ha-enable", f"ha-config:timeout={TIMEOUT_S}")
        yield one


def test_it_is_on_with_leases_and_refuses_what_would_cut_hosts_off(pool: Pool) -> None:
    lab, ask = pool.lab, pool.ask
    (uuid,) = lab.xe(ask, "pool-list", "--minimal").split(",")
    shown = lab.xe(ask, "pool-param-list", f"uuid={uuid}")
    assert re.search(r"ha-enabled \( RO\): true", shown)
    assert re.search(rf"ha-configuration \( RO\): timeout: {TIMEOUT_S}", shown)
    assert pool.holders() == set(HOSTS)
    assert lab.xe(ask, "pool-ha-compute-max-host-failures-to-tolerate") == "1"
    lab.xe(ask, "pool-param-set", f"uuid={uuid}", "ha-host-failures-to-tolerate=1")
    assert xe(lab, ask, "pool-param-set", f"uuid={uuid}", "ha-host-failures-to-tolerate=2")[0] == 1
    other = pool.others(ask)[0]
    pif = lab.xe(ask, "pif-list", f"host-name-label={other}", "device=eth0", "--minimal")
    second = lab.xe(ask, "pif-list", f"host-name-label={other}", "device=eth1", "--minimal")
    bonded = lab.xe(ask, "network-create", "name-label=bonded")
    for words, text in (
        (("pool-ha-enable",), "high availability is on"),
        (("pool-cluster-disable",), "high availability is on"),
        (("pool-eject", f"host-uuid={host_uuid(lab, other, ask)}", "--force"), "high availability is on"),
        (("pool-designate-new-master", f"host-uuid={host_uuid(lab, other, ask)}"), "high availability is on"),
        (("pif-reconfigure-ip", f"uuid={pif}", "mode=dhcp"), "high availability is on"),
        (("pif-unplug", f"uuid={second}"), "high availability is on"),
        (("host-management-reconfigure", f"pif-uuid={second}"), "high availability is on"),
        (("bond-create", f"network-uuid={bonded}", f"pif-uuids={pif},{second}"), "management interface"),
        (("host-emergency-ha-disable",), "must be forced (use --force)"),
    ):
        code, said = xe(lab, ask, *words)
        assert code == 1, words
        assert text in said, said
    lab.xe(ask, "network-destroy", f"uuid={bonded}")


def test_a_host_that_is_cut_off_is_silent_before_its_vms_run_elsewhere_and_comes_back_without_them(
    pool: Pool,
) -> None:
    lab, ask = pool.lab, pool.ask
    victim = pool.others(ask)[0]
    pool.vm("guarded", victim, "restart", order=1)
    pool.vm("later", victim, "restart", order=2)
    lab.xe(ask, "vm-param-set", f"uuid={pool.vms['guarded']}", f"start-delay={DELAY_S}")
    pool.vm("perhaps", victim, "best-effort")
    pool.vm("nobody", victim, "")
    vif = pool.vif("guarded")
    for words in (
        "locking-mode=locked",
        f"ipv4-allowed={pool.address('guarded')}",
        "qos_algorithm_type=ratelimit",
        "qos_algorithm_params:kbps=300",
    ):
        lab.xe(ask, "vif-param-set", f"uuid={vif}", words)
    mac = pool.vif("guarded", "params=MAC")
    plan = lab.xe(ask, "pool-ha-compute-vm-failover-plan", f"host-uuids={host_uuid(lab, victim, ask)}")
    assert plan.startswith("VM ")
    assert len(plan.splitlines()) == 3
    domid = pool.domid("guarded")
    asyncio.run(life.partition(lab.name, victim))  # shorter than the lease: nothing happens
    time.sleep(TIMEOUT_S / 4)
    asyncio.run(life.heal(lab.name, victim))
    pool.back(victim)
    assert (pool.where("guarded"), pool.domid("guarded")) == (victim, domid)
    with Frames(pool, "guarded") as frames:
        time.sleep(0.5)
        assert living_guests(lab, victim) == 4
        asyncio.run(life.partition(lab.name, victim))
        cut_off = time.time()
        eventually(lambda: not raised_vifs(lab, victim), "its VIFs are not down")
        eventually(lambda: living_guests(lab, victim) == 0, "its guests are not ended")
        there = pool.restarted("guarded", victim)
    assert_one_after_the_other(frames, victim, there, cut_off)
    assert pool.vif("guarded", "params=MAC") == mac
    assert ": proved" in lab.xe(ask, "vif-lock-verify", f"uuid={vif}").splitlines()[0]
    assert lab.xe(ask, "vif-param-get", f"uuid={vif}", "param-name=qos_algorithm_params") == "kbps: 300"
    places = {name: pool.restarted(name, victim) for name in ("later", "perhaps")}
    first, second = guest_started_s(lab, there, "guarded"), guest_started_s(lab, places["later"], "later")
    assert second >= first + DELAY_S, "the next in the order is not waited with"
    assert (
        answer(lab, ask, "vm-param-get", f"uuid={pool.vms['nobody']}", "param-name=power-state") == "halted"
    )
    assert "HA_HOST_FAILED" in pool.alerts()
    asyncio.run(life.heal(lab.name, victim))
    pool.back(victim)
    assert "HA_HOST_WAS_FENCED" in pool.alerts()
    assert guests_on(lab, victim) == {}
    assert pool.where("guarded") == there
    lab.xe(ask, "vm-migrate", "vm=guarded", f"host={victim}")
    eventually(lambda: guests_on(lab, victim) == {"guarded": "running"}, "it runs no VM any more")


def test_what_is_killed_is_restarted_in_time_and_what_hangs_is_silenced_without_it(pool: Pool) -> None:
    """First every program of poolnet is killed, the guard too; then the coordinator's daemon hangs, and its switch with it."""
    lab = pool.lab
    victim = pool.where("guarded")
    domid = pool.domid("guarded")
    signalled(lab, victim, "KILL", f"{POOLNET}|{GUARD}")
    killed_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    eventually(
        lambda: lease_until_ns(lab, victim) > killed_ns + TIMEOUT_S * 10**9, "its lease is not renewed"
    )
    eventually(lambda: GUARD in lab.run(victim, "ps", "-eo", "args"), "nobody guards it")
    pool.back(victim)
    assert (pool.where("guarded"), pool.domid("guarded")) == (victim, domid)
    coordinator = asyncio.run(cluster_load.whole(lab))
    if victim != coordinator:
        lab.xe(coordinator, "vm-migrate", "vm=guarded", f"host={coordinator}")
        victim = coordinator
    pool.give_address("guarded")
    pool.ask = pool.others(victim)[0]
    with Frames(pool, "guarded") as frames:
        time.sleep(0.5)
        hung = f"bin/poolnet-hostd|{SWITCH}"
        signalled(lab, victim, "STOP", hung)
        cut_off = time.time()
        there = pool.restarted("guarded", victim)
        assert living_guests(lab, victim) == 0
    assert_one_after_the_other(frames, victim, there, cut_off)
    signalled(lab, victim, "CONT", hung)
    pool.back(victim)


def test_a_coordinator_that_dies_while_it_restarts_vms_starts_none_twice(pool: Pool) -> None:
    lab = pool.lab
    pool.ask = now = asyncio.run(cluster_load.whole(lab))
    victim = next(host for host in pool.others(now) if "peer" not in guests_on(lab, host))
    for name in ("guarded", "later"):
        if pool.where(name) != victim:
            lab.xe(now, "vm-migrate", f"vm={name}", f"host={victim}")
        pool.give_address(name)
    with Frames(pool, "guarded") as frames:
        time.sleep(0.5)
        asyncio.run(life.partition(lab.name, victim))
        cut_off = time.time()
        pool.ask = next(host for host in pool.others(victim, now))
        eventually(lambda: pool.where("guarded") != victim, "it is not noticed")
        cluster_load.kill(lab, now, database=False)
        there = pool.restarted("guarded", victim)
        pool.restarted("later", victim)
    assert_one_after_the_other(frames, victim, there, cut_off)
    for name in ("guarded", "later"):
        assert sum(name in guests_on(lab, host) for host in pool.others(victim)) == 1
    asyncio.run(life.heal(lab.name, victim))
    pool.back(victim)


def test_a_pool_that_has_died_as_a_whole_starts_its_vms_again_when_it_boots(pool: Pool) -> None:
    """Nobody does anything: the hosts have power again, each is armed and has no lease, and no VM is anywhere."""
    lab = pool.lab
    again = ("peer", "guarded", "later", "perhaps")
    for host in HOSTS:
        asyncio.run(machine.end(lab.lab.directory / host, ask=False))
    for host in HOSTS:
        survival.reboot(lab, host, hard=True, wait=False)
        assert guests_on(lab, host) == {}
    pool.ask = asyncio.run(cluster_load.whole(lab))

    def running() -> list[str]:
        return sorted(name for host in HOSTS for name, state in guests_on(lab, host).items())

    eventually(lambda: running() == sorted(again), "not all are started again")
    for name in again:
        eventually(lambda name=name: name in guests_on(lab, pool.where(name)), f"{name} is elsewhere")  # type: ignore[misc]
        assert pool.domid(name) != "-1"
    assert "nobody" not in running()
    for host in HOSTS:
        pool.back(host)
    assert running() == sorted(again), "one was started twice"
    assert sum(living_guests(lab, host) for host in HOSTS) == len(again)


def test_restarts_are_held_back_as_long_as_somebody_wants(pool: Pool) -> None:
    """Its guest ends by itself, which is a reason to restart it. Plans are asked for meanwhile."""
    lab, ask = pool.lab, pool.ask
    there, domid = pool.where("guarded"), pool.domid("guarded")
    uuid = pool.vms["guarded"]
    lab.xe(ask, "pool-ha-prevent-restarts-for", "seconds=600")
    lab.run(there, "kill", "-9", str(guest_record(lab, there, "guarded")["pid"]))
    state = ("vm-param-get", f"uuid={uuid}", "param-name=power-state")
    eventually(lambda: answer(lab, ask, *state) == "halted", "it is not noticed")
    hypothetical = ("pool-ha-compute-hypothetical-max-host-failures-to-tolerate", f"vm-uuid={uuid}")
    assert lab.xe(ask, *hypothetical, "restart-priority=restart") == "1"
    other = host_uuid(lab, pool.where("peer"), ask)
    plan = lab.xe(ask, "pool-ha-compute-vm-failover-plan", f"host-uuids={other}")
    assert "peer" in plan
    time.sleep(TIMEOUT_S / 4)
    assert answer(lab, ask, *state) == "halted"
    lab.xe(ask, "pool-ha-prevent-restarts-for", "seconds=0")
    eventually(lambda: answer(lab, ask, *state) == "running", "it is not restarted")
    assert pool.domid("guarded") != domid


def test_turned_off_it_disarms_the_hosts_and_disturbs_no_vm(pool: Pool) -> None:
    lab, ask = pool.lab, pool.ask
    before = {name: pool.domid(name) for name in pool.vms}
    lab.xe(ask, "pool-ha-disable")
    for host in HOSTS:
        armed = lab.lab.directory / host / "var-lib/poolnet/hostd/fence.json"
        eventually(lambda armed=armed: not armed.exists(), f"{host} stays armed")  # type: ignore[misc]
        eventually(lambda host=host: GUARD not in lab.run(host, "ps", "-eo", "args"), f"{host} is guarded")  # type: ignore[misc]
    for words in (("pool-ha-disable",), ("pool-ha-prevent-restarts-for", "seconds=1")):
        code, said = xe(lab, ask, *words)
        assert code == 1
        assert "High availability is not on" in said, said
    lab.xe(ask, "pool-ha-enable", f"ha-config:timeout={TIMEOUT_S}")
    for host in HOSTS:
        pool.back(host)
    assert {name: pool.domid(name) for name in pool.vms} == before


def test_a_survivor_without_a_majority_fences_itself_and_can_be_disarmed(pool: Pool) -> None:
    lab = pool.lab
    pool.ask = asyncio.run(cluster_load.whole(lab))
    alone = pool.where("guarded")
    assert living_guests(lab, alone) > 0
    for host in pool.others(alone):
        signalled(lab, host, "STOP", POOLNET)
    eventually(lambda: living_guests(lab, alone) == 0, "it goes on without a majority")
    for host in pool.others(alone):
        eventually(lambda host=host: not raised_vifs(lab, host), f"{host} goes on")  # type: ignore[misc]
    eventually(lambda: answer(lab, alone, "host-is-in-emergency-mode") == "true", "it does not notice")
    for words, text in (
        (("pool-emergency-transition-to-master",), "high availability is on"),
        (("host-emergency-ha-disable",), "must be forced"),
    ):
        code, said = xe(lab, alone, *words)
        assert code == 1
        assert text in said, said
    assert xe(lab, alone, "host-emergency-ha-disable", "--force") == (0, "")
    assert xe(lab, alone, "pool-emergency-transition-to-master")[0] == 0
    pool.ask = alone
    eventually(
        lambda: answer(lab, alone, "pool-list", "params=ha-enabled", "--minimal") == "false", "it stays on"
    )
    pool.vm("disarmed", alone, "")
    assert guests_on(lab, alone) == {"disarmed": "running"}
    for host in pool.others(
        alone
    ):  # without their servers, which would have a majority, and a pool of their own
        signalled(lab, host, "CONT", "bin/poolnet-(api|hostd)")
    off = ("pool-list", "params=ha-enabled", "--minimal")
    for host in pool.others(alone):
        eventually(lambda host=host: answer(lab, host, *off) == "false", f"{host} does not follow it")  # type: ignore[misc]
        signalled(lab, host, "CONT", POOLNET)
    eventually(lambda: live(lab, alone) == set(HOSTS), "not all follow it")
    for host in HOSTS:
        with suppress(AssertionError):
            eventually(lambda host=host: not is_armed(lab, host))  # type: ignore[misc]
        assert not is_armed(lab, host), f"{host} stays armed: {why_armed(lab, host)}"


def is_armed(lab: RunningLab, host: str) -> bool:
    return (lab.lab.directory / host / "var-lib/poolnet/hostd/fence.json").exists()


def why_armed(lab: RunningLab, host: str) -> str:
    """What a host waits for before it is disarmed, as it has said."""
    log = lab.lab.directory / host / "var-log/poolnet-api.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(line for line in lines if "host-stays-armed" in line or "host-disarmed" in line)
