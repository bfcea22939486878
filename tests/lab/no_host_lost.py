"""No host is lost: random changes that would cut management off, with random accidents, and what became of the host.

`python -m tests.lab.no_host_lost --changes 500` is `make soak`; the tests carry out a small sample with a fixed seed. After
each change the host must be reached at the address that it says it has, be what its daemon confirmed last, and, if the
command failed, have the database and the network that it had before.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import threading
import time
import xmlrpc.client
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

from poolnet.hostd.checkpoint import Confirmed, read_confirmed
from poolnet.lab import machine
from poolnet.lab.state import LabError
from tests.lab import survival
from tests.lab.running import BACKEND, RunningLab, running_lab

CONFIRM_WITHIN_S = 3
REACHED_WITHIN_S = CONFIRM_WITHIN_S + 10.0  # what is promised, and counted
GIVEN_UP_AFTER_S = 90.0  # then the host is lost
NICS = 4
MANAGEMENT_NIC = "eth0"
OTHERS = ("eth1", "eth2", "eth3")
TAGS = range(2, 4095)


class _UnixConnection(HTTPConnection):
    """HTTP to the API's local socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        """See the base class."""
        self.sock = socket(AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Subject:
    """One host that changes are tried on."""

    def __init__(self, lab: RunningLab, name: str) -> None:
        self.lab = lab
        self.name = name
        self.base = lab.lab.network.removesuffix(".0/24")
        self.own = lab.lab.host(name).address
        self.number = lab.lab.host(name).number
        self._directory = lab.lab.directory / name
        self._session = ""

    def call(self, method: str, *parameters: Any) -> Any:
        """A call as root on the host; waits for an API server that starts. Raises survival.Refused."""
        deadline = time.monotonic() + GIVEN_UP_AFTER_S
        while True:
            try:
                if not self._session:
                    words = ("root", "", "1.0", "no-host-lost")
                    self._session = str(self._ask("session.login_with_password", *words))
                return self._ask(method, self._session, *parameters)
            except survival.Refused as refused:
                if refused.args[0] not in ("SESSION_INVALID", "HOST_STILL_BOOTING", "CANNOT_CONTACT_HOST"):
                    raise
                self._session = ""
            except OSError:
                self._session = ""
            assert time.monotonic() < deadline, f"the API of {self.name} never answers"
            time.sleep(0.1)

    def _ask(self, method: str, *parameters: Any) -> Any:
        link = _UnixConnection(self._directory / "run/poolnet/xapi.sock")
        try:
            link.request("POST", "/", xmlrpc.client.dumps(parameters, method))
            (answer,), _ = xmlrpc.client.loads(link.getresponse().read())
        finally:
            link.close()
        assert isinstance(answer, dict)
        if answer["Status"] != "Success":
            raise survival.Refused(*answer["ErrorDescription"])
        return answer["Value"]

    def records(self, kind: str) -> dict[str, dict[str, Any]]:
        """All records of a class."""
        found: dict[str, dict[str, Any]] = self.call(f"{kind}.get_all_records")
        return found

    def pif(self, device: str) -> tuple[str, str]:
        """Reference and uuid of a NIC's PIF."""
        return next(
            (ref, row["uuid"])
            for ref, row in self.records("PIF").items()
            if row["device"] == device and row["physical"]
        )

    def address(self) -> str:
        """Where the host says that it is."""
        (row,) = self.records("host").values()
        return str(row["address"])

    def network(self, name: str, mtu: int = 1500) -> tuple[str, str]:
        """Reference and uuid of a new network."""
        record = {"name_label": name, "MTU": str(mtu), "other_config": {}}
        ref = str(self.call("network.create", record))
        return ref, str(self.call("network.get_uuid", ref))

    def link(self, nic: str, *, up: bool) -> None:
        """Plugs or pulls a cable."""
        words = ("ip", "link", "set", f"{self.name}-{nic}", "up" if up else "down")
        self.lab.run("switch", *words)

    def known(self) -> Any:
        """What the database says of the host's network, as far as a command changes it."""
        names = (
            "IP",
            "netmask",
            "gateway",
            "DNS",
            "management",
            "ip_configuration_mode",
            "currently_attached",
        )
        pifs = {ref: tuple(str(row[name]) for name in names) for ref, row in self.records("PIF").items()}
        return self.address(), pifs, sorted(self.records("Bond")), sorted(self.records("VLAN"))

    def confirmed(self) -> Confirmed:
        """What the daemon confirmed last."""
        confirmed = read_confirmed(self._directory / "var-lib/poolnet/hostd")
        assert confirmed is not None, f"{self.name} has nothing confirmed"
        return confirmed

    def is_interrupted(self) -> bool:
        """Whether a change is under way that is neither confirmed nor taken back."""
        return (self._directory / "var-lib/poolnet/hostd/journal.json").exists()

    def answers_ping(self, address: str) -> bool:
        """Whether a machine in the management network reaches the host."""
        said = self.lab.run("switch", "ping", "-n", "-c", "1", "-W", "1", address or "0.0.0.0", check=False)
        return " 0% packet loss" in said

    def is_reached(self, address: str) -> bool:
        """Whether a machine in the management network reaches the host, and its API there."""
        if not self.answers_ping(address):
            return False
        head = "exec 3<>/dev/tcp/$0/80 && printf 'OPTIONS / HTTP/1.0\\r\\n\\r\\n' >&3 && head -c 12 <&3"
        return "200" in self.lab.run("switch", "timeout", "3", "bash", "-c", head, address, check=False)


Words = tuple[str, ...]
Change = Callable[[Subject, random.Random], Words]


def _static(subject: Subject, device: str, address: str, gateway: str = "") -> Words:
    words = (f"uuid={subject.pif(device)[1]}", "mode=static", f"IP={address}", "netmask=255.255.255.0")
    return ("pif-reconfigure-ip", *words, f"gateway={gateway}")


def _give(subject: Subject, pif: str, address: str, gateway: str = "") -> None:
    subject.call("PIF.reconfigure_ip", pif, "Static", address, "255.255.255.0", gateway, "")


def _wrong_gateway(subject: Subject, rng: random.Random) -> Words:
    return _static(subject, MANAGEMENT_NIC, subject.own, f"{subject.base}.{rng.randint(200, 250)}")


def _wrong_network(subject: Subject, rng: random.Random) -> Words:
    address = f"10.{rng.randint(0, 255)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}"
    return _static(subject, MANAGEMENT_NIC, address)


def _taken_address(subject: Subject, rng: random.Random) -> Words:
    return _static(subject, MANAGEMENT_NIC, f"{subject.base}.254", rng.choice(("", f"{subject.base}.253")))


def _no_lease(subject: Subject, rng: random.Random) -> Words:
    return ("pif-reconfigure-ip", f"uuid={subject.pif(MANAGEMENT_NIC)[1]}", "mode=dhcp")


def _no_address(subject: Subject, rng: random.Random) -> Words:
    return ("pif-reconfigure-ip", f"uuid={subject.pif(MANAGEMENT_NIC)[1]}", "mode=none")


def _dead_nic(subject: Subject, rng: random.Random) -> Words:
    nic = rng.choice(OTHERS)
    subject.link(nic, up=False)
    ref, uuid = subject.pif(nic)
    _give(subject, ref, f"{subject.base}.{100 + subject.number}", f"{subject.base}.254")
    return ("host-management-reconfigure", f"pif-uuid={uuid}")


def _bad_vlan(subject: Subject, rng: random.Random) -> Words:
    base, _ = subject.pif(rng.choice((MANAGEMENT_NIC, *OTHERS)))
    network, _ = subject.network("nobody")
    vlan = subject.call("VLAN.create", base, str(rng.choice(TAGS)), network)
    pif = subject.call("VLAN.get_untagged_PIF", vlan)
    subnet = rng.choice((subject.base, "10.98.0"))
    _give(subject, pif, f"{subnet}.{100 + subject.number}", f"{subnet}.254")
    return ("host-management-reconfigure", f"pif-uuid={subject.call('PIF.get_uuid', pif)}")


def _dead_bond(subject: Subject, rng: random.Random) -> Words:
    """Management moves to a bond whose NICs nothing is connected to, by the command that makes it."""
    nics = (MANAGEMENT_NIC, rng.choice(OTHERS))
    for nic in nics[1:]:
        subject.link(nic, up=False)
    _, network = subject.network("bond", rng.choice((1500, 1500, 9000, 65521)))
    pifs = ",".join(subject.pif(nic)[1] for nic in nics)
    return ("bond-create", f"network-uuid={network}", f"pif-uuids={pifs}", f"mode={rng.choice(_MODES)}")


def _lacp_bond(subject: Subject, rng: random.Random) -> Words:
    """The switch knows nothing of LACP."""
    _, network = subject.network("bond")
    nics = (MANAGEMENT_NIC, *rng.sample(OTHERS, rng.randint(1, 3)))
    pifs = ",".join(subject.pif(nic)[1] for nic in nics)
    return ("bond-create", f"network-uuid={network}", f"pif-uuids={pifs}", "mode=lacp")


def _bond_elsewhere(subject: Subject, rng: random.Random) -> Words:
    """A bond of dead NICs is there, and then management is to move to it."""
    nics = rng.sample(OTHERS, 2)
    for nic in nics:
        subject.link(nic, up=False)
    network, _ = subject.network("bond")
    bond = subject.call(
        "Bond.create", network, [subject.pif(nic)[0] for nic in nics], "", rng.choice(_MODES), {}
    )
    master = subject.call("Bond.get_master", bond)
    _give(subject, master, f"{subject.base}.{100 + subject.number}", f"{subject.base}.254")
    return ("host-management-reconfigure", f"pif-uuid={subject.call('PIF.get_uuid', master)}")


def _unplug(subject: Subject, rng: random.Random) -> Words:
    command = rng.choice(("pif-unplug", "pif-forget"))
    return (command, f"uuid={subject.pif(MANAGEMENT_NIC)[1]}")


def _mtu(subject: Subject, rng: random.Random) -> Words:
    """A bond with an MTU that no cable carries."""
    _, network = subject.network("mtu", rng.choice((68, 576, 9000, 65521, 100000)))
    pifs = ",".join(subject.pif(nic)[1] for nic in (MANAGEMENT_NIC, rng.choice(OTHERS)))
    return ("bond-create", f"network-uuid={network}", f"pif-uuids={pifs}", "mode=active-backup")


def _good_move(subject: Subject, rng: random.Random) -> Words:
    ref, uuid = subject.pif(rng.choice(OTHERS))
    _give(subject, ref, f"{subject.base}.{100 + subject.number}", f"{subject.base}.254")
    return ("host-management-reconfigure", f"pif-uuid={uuid}")


def _good_address(subject: Subject, rng: random.Random) -> Words:
    address = f"{subject.base}.{100 + subject.number}"
    return _static(subject, MANAGEMENT_NIC, address, f"{subject.base}.254")


_MODES = ("balance-slb", "active-backup")
CHANGES: Mapping[str, Change] = {
    "wrong gateway": _wrong_gateway,
    "wrong network": _wrong_network,
    "taken address": _taken_address,
    "no lease": _no_lease,
    "no address": _no_address,
    "dead NIC": _dead_nic,
    "bad VLAN": _bad_vlan,
    "half dead bond": _dead_bond,
    "LACP bond without a partner": _lacp_bond,
    "dead bond": _bond_elsewhere,
    "unplug": _unplug,
    "MTU": _mtu,
    "good move": _good_move,
    "good address": _good_address,
}
ACCIDENTS = (
    "none",
    "none",
    "kill poolnet-hostd",
    "kill poolnet-api",
    "kill both",
    "kill ovs-vswitchd",
    "power cut",
)


def possible(backend: str) -> tuple[list[str], list[str]]:
    """The changes and the accidents that can happen to a host with that backend on this kernel.

    A Linux bridge has VLANs and bonds from the kernel's drivers; commands that ask for what the kernel lacks are tried
    nevertheless, but changes that need it to be there before are not.
    """
    if backend == "openvswitch":
        return list(CHANGES), list(ACCIDENTS)
    lacking = {"bad VLAN"} if not Path("/proc/net/vlan/config").exists() else set()
    lacking |= {"dead bond"} if not Path("/proc/net/bonding").exists() else set()
    return (
        [name for name in CHANGES if name not in lacking],
        [name for name in ACCIDENTS if name != "kill ovs-vswitchd"],
    )


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One change with one accident, `after_s` after the command was given."""

    number: int
    change: str
    accident: str
    after_s: float
    seed: int

    def __str__(self) -> str:
        """What is tried."""
        return f"{self.number}: {self.change}, {self.accident} after {self.after_s:.2f} s (seed {self.seed})"


def trials(
    seed: int, count: int, only: Collection[str] = CHANGES, accidents: Sequence[str] = ACCIDENTS
) -> Iterator[Trial]:
    """That many random trials of `only` these; each change and each accident comes about equally often."""
    rng = random.Random(seed)
    names: list[str] = []
    for number in range(count):
        if not names:
            names = [name for name in CHANGES if name in only]
            rng.shuffle(names)
        yield Trial(
            number=number,
            change=names.pop(),
            accident=rng.choice(accidents),
            after_s=rng.uniform(0.0, CONFIRM_WITHIN_S + 1.0),
            seed=rng.getrandbits(32),
        )


@dataclass(kw_only=True)
class Outcome:
    """What became of a trial: did the command succeed, how long was the host away, and what is wrong, if anything.

    `times` say, in seconds since the host was expected back, when the command ended, when no change was under way any
    more, and when the host was reached.
    """

    trial: Trial
    succeeded: bool = False
    away_s: float = 0.0
    times: dict[str, float] = field(default_factory=dict)
    wrong: str = ""
    log: str = ""

    @property
    def is_late(self) -> bool:
        """Was the host away for longer than promised?"""
        return self.away_s > REACHED_WITHIN_S - CONFIRM_WITHIN_S


def carry_out(subject: Subject, trial: Trial) -> Outcome:
    """Tries one change and looks at the host afterwards; then the host is as it was before all trials."""
    outcome = Outcome(trial=trial)
    try:
        words = CHANGES[trial.change](subject, random.Random(trial.seed))
        before, confirmed = subject.known(), subject.confirmed().network
        command = (
            *machine.entering(subject.lab.lab.host(subject.name).pid),
            *("xe", *words, f"--confirm-within={CONFIRM_WITHIN_S}"),
        )
        with survival.running(command, stderr=subprocess.STDOUT) as process:
            due = time.monotonic() + CONFIRM_WITHIN_S
            if trial.accident != "none":
                with suppress(subprocess.TimeoutExpired):
                    process.wait(trial.after_s)
                due = max(due, _happen(subject, trial.accident))
            with suppress(subprocess.TimeoutExpired):
                process.wait(GIVEN_UP_AFTER_S)
            outcome.succeeded = process.returncode == 0
        due = max(due, time.monotonic()) if outcome.succeeded else due
        outcome.times["command ended"] = time.monotonic() - due
        expected = subject.address() if outcome.succeeded else before[0]
        _wait(lambda: not subject.is_interrupted(), "no change is under way")
        outcome.times["nothing under way"] = time.monotonic() - due
        if not _holds(lambda: subject.answers_ping(expected), 4.0):
            outcome.log = _state(subject)
        _wait(lambda: subject.answers_ping(expected), "it answers ping")
        outcome.times["answers ping"] = time.monotonic() - due
        _wait(lambda: not subject.is_interrupted() and subject.is_reached(expected), "it is reached")
        outcome.times["reached"] = time.monotonic() - due
        outcome.away_s = max(0.0, outcome.times["reached"])
        if outcome.is_late and not outcome.log:
            outcome.log = _state(subject)
        if not outcome.succeeded:
            _wait(lambda: subject.known() == before, "the database is as before")
            _wait(lambda: subject.confirmed().network == confirmed, "the network is as before")
        elif subject.known() == before:
            outcome.wrong = "the command succeeded and changed nothing"
        _wait(lambda: subject.is_reached(expected), "it is still reached")
        _tidy(subject)
    except (AssertionError, survival.Refused, OSError, LabError) as error:
        outcome.wrong = f"{type(error).__name__}: {error}\n{_state(subject)}"
    return outcome


def _state(subject: Subject) -> str:
    """What can be seen of a host that is lost."""
    commands = (
        "ip -br address; ip -br link; ip route; ip neigh; cat /proc/net/arp; timeout 3 tcpdump -c 20 -nei any arp or icmp",
        "ovs-vsctl show; ovs-appctl bond/show; ovs-appctl lacp/show; ovs-vsctl --columns=name,error list Interface",
        "date; tail -n 40 /var/log/poolnet-hostd.log; tail -n 20 /var/log/poolnet-api.log",
    )
    said = [subject.lab.run(subject.name, "sh", "-c", f"{command} 2>&1", check=False) for command in commands]
    said.append(subject.lab.run("switch", "sh", "-c", "ip neigh; ovs-appctl fdb/show switch0", check=False))
    return f"--- {subject.name}\n" + "\n".join(said)


def _happen(subject: Subject, accident: str) -> float:
    """Lets an accident happen; the moment from which on the host is expected back."""
    match accident.split():
        case ["power", "cut"]:
            survival.reboot(subject.lab, subject.name, hard=True, wait=False)
        case ["kill", "both"]:
            for program in ("poolnet-hostd", "poolnet-api"):
                _kill(subject, program)
        case ["kill", program]:
            _kill(subject, program)
    return time.monotonic()


def _kill(subject: Subject, program: str) -> None:
    """One that has just been killed may not run yet."""
    with suppress(AssertionError, ProcessLookupError):
        survival.kill(subject.lab, subject.name, program)


def _wait(holds: Callable[[], bool], what: str) -> None:
    assert _holds(holds, GIVEN_UP_AFTER_S), f"not within {GIVEN_UP_AFTER_S:g} s: {what}"


def _holds(holds: Callable[[], bool], within_s: float) -> bool:
    """Whether it does by then."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _tidy(subject: Subject) -> None:
    """All cables in, management on the first NIC as at the start, and nothing else."""
    for nic in OTHERS:
        subject.link(nic, up=True)
    for bond, row in subject.records("Bond").items():
        if subject.call("PIF.get_management", row["master"]) and MANAGEMENT_NIC not in _members(
            subject, bond
        ):
            continue
        subject.call("Bond.destroy", bond)
    eth0, _ = subject.pif(MANAGEMENT_NIC)
    row = subject.call("PIF.get_record", eth0)
    gateway = f"{subject.base}.254"
    if (row["IP"], row["gateway"]) != (subject.own, gateway):
        _give(subject, eth0, subject.own, gateway)
    if not row["management"]:
        subject.call("host.management_reconfigure", eth0)
    for bond in subject.records("Bond"):
        subject.call("Bond.destroy", bond)
    for vlan in subject.records("VLAN"):
        subject.call("VLAN.destroy", vlan)
    for nic in OTHERS:
        ref, _ = subject.pif(nic)
        if subject.call("PIF.get_ip_configuration_mode", ref) != "None":
            subject.call("PIF.reconfigure_ip", ref, "None", "", "", "", "")
    for network, row in subject.records("network").items():
        if not row["PIFs"] and row["name_label"] in ("nobody", "bond", "mtu"):
            subject.call("network.destroy", network)


def _members(subject: Subject, bond: str) -> list[str]:
    return [subject.call("PIF.get_device", pif) for pif in subject.call("Bond.get_slaves", bond)]


@dataclass
class Report:
    """All outcomes so far."""

    outcomes: list[Outcome] = field(default_factory=list)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def add(self, outcome: Outcome, *, loud: bool) -> None:
        """Notes one more."""
        with self._turn:
            self.outcomes.append(outcome)
            if loud:
                end = outcome.wrong or ("kept" if outcome.succeeded else "taken back")
                times = ", ".join(f"{what} at {when:.1f} s" for what, when in outcome.times.items())
                late = f" LATE: {times}\n{outcome.log}" if outcome.log else ""
                sys.stdout.write(f"{outcome.trial}: {end}, away {outcome.away_s:.1f} s{late}\n")
                sys.stdout.flush()

    def wrong(self) -> list[str]:
        """The trials that a host did not survive."""
        return [f"{one.trial}: {one.wrong}" for one in self.outcomes if one.wrong]

    def text(self) -> str:
        """The figures."""
        away = sorted(one.away_s for one in self.outcomes) or [0.0]
        late = [one for one in self.outcomes if one.is_late]
        pinged = sorted(max(0.0, one.times.get("answers ping", 0.0)) for one in self.outcomes) or [0.0]
        return (
            f"{len(self.outcomes)} changes, {sum(one.succeeded for one in self.outcomes)} kept, "
            f"{len(self.wrong())} hosts lost, {len(late)} late; away after the timer: "
            f"median {away[len(away) // 2]:.1f} s, at most {away[-1]:.1f} s; "
            f"without an answer to ping: median {pinged[len(pinged) // 2]:.1f} s, at most {pinged[-1]:.1f} s"
        )


def run(lab: RunningLab, waiting: Iterator[Trial], *, loud: bool = False) -> Report:
    """Carries trials out on all hosts of a lab at the same time, each host one after the other.

    A host that is lost is left as it is: what would happen to it later says nothing.
    """
    report = Report()
    turn = threading.Lock()

    def work(name: str) -> None:
        subject = Subject(lab, name)
        while True:
            with turn:
                trial = next(waiting, None)
            if trial is None:
                return
            outcome = carry_out(subject, trial)
            report.add(outcome, loud=loud)
            if outcome.wrong:
                return

    names = [host.name for host in lab.lab.hosts]
    with ThreadPoolExecutor(len(names)) as pool:
        for done in [pool.submit(work, name) for name in names]:
            done.result()
    return report


def main() -> int:
    """Runs as many trials as asked for; 1 when a host was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=500)
    parser.add_argument("--hosts", type=int, default=4, help="that many are tried at the same time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default=",".join(CHANGES), help="the changes to try, by name")
    parser.add_argument("--accidents", default=",".join(ACCIDENTS), help="the accidents, by name")
    arguments = parser.parse_args()
    changes, accidents = possible(BACKEND)
    only = [name for name in arguments.only.split(",") if name in changes]
    accidents = [name for name in accidents if name in arguments.accidents.split(",")]
    tried = trials(arguments.seed, arguments.changes, only, accidents)
    with running_lab(hosts=arguments.hosts, nics=NICS) as lab:
        report = run(lab, tried, loud=True)
    sys.stdout.write("".join(f"LOST {line}\n" for line in report.wrong()))
    sys.stdout.write(f"{report.text()}\n")
    return 1 if report.wrong() else 0


if __name__ == "__main__":
    sys.exit(main())
