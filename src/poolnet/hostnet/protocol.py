"""The frames between the pool (a member's API server) and its host daemon: types only.

One connection over the daemon's Unix socket carries frames of four bytes big-endian length and that many bytes of JSON.
A client sends `Request` frames and gets one `Reply` with the same id for each, in any order; after `Watch` the daemon
sends `Reply` frames with that id whenever a fact changes. The daemon refuses every field the types forbid.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, TypeAlias

from msgspec import Struct

from poolnet.hostnet.drift import Change
from poolnet.hostnet.facts import HostFacts, PortFacts
from poolnet.hostnet.state import GuestPort, HostNetwork, IpConfig
from poolnet.hostnet.steps import Plan
from poolnet.hostnet.storage import StorageAction

FRAME_BYTES_MAX = 64 * 1024 * 1024  # 20,000 ports are about 8 MiB
PROTOCOL_VERSION = 1
VERIFY_PORTS_MAX = 64  # of one request: about a second of the daemon's and of the switch's time


class GuestNic(Struct, frozen=True, kw_only=True):
    """A NIC of a guest. Its host end is `vif<domid>.<device>`, inside it is `eth<device>`.

    With `function`, a PCI address, it is that virtual function instead, and has no host end; the guest can use it when it
    runs, after the network was changed. Its NIC is to be in the VLAN `vlan_tag` then, 0 for none.
    """

    device: int
    mac: str
    mtu_bytes: int = 1500
    function: str = ""
    vlan_tag: int = 0


class GuestSpec(Struct, frozen=True, kw_only=True):
    """A guest to make. `domid` is unique on the host since it booted; memory in bytes.

    `domain` names what the hypervisor knows it by, if somebody has said so; a runtime that has nothing of the kind passes
    over it.
    """

    vm_uuid: str
    name: str
    domid: int
    nics: tuple[GuestNic, ...] = ()
    memory_bytes: int = 0
    vcpus: int = 1
    domain: str = ""


class CreateGuest(Struct, frozen=True, kw_only=True, tag=True):
    """Make the guest and its NICs, not yet running; the host ends exist afterwards, unconnected and down."""

    guest: GuestSpec


class RunGuest(Struct, frozen=True, kw_only=True, tag=True):
    """Let a created, paused or frozen guest run, with its NICs up."""

    vm_uuid: str


class PauseGuest(Struct, frozen=True, kw_only=True, tag=True):
    """Freeze a guest in memory; its NICs stay."""

    vm_uuid: str


class ShutDownGuest(Struct, frozen=True, kw_only=True, tag=True):
    """Ask the guest to end, and wait for it at most `timeout_s` seconds."""

    vm_uuid: str
    timeout_s: float = 60.0


class DestroyGuest(Struct, frozen=True, kw_only=True, tag=True):
    """End the guest at once and remove what is left of it. Nothing to do if it does not exist."""

    vm_uuid: str


class SuspendGuest(Struct, frozen=True, kw_only=True, tag=True):
    """Write the guest away so that `ResumeGuest` can bring it back; it has no NICs and no domid until then."""

    vm_uuid: str


class ResumeGuest(Struct, frozen=True, kw_only=True, tag=True):
    """Bring a suspended guest back under a new domid, not yet running, with these NICs."""

    guest: GuestSpec


class PlugNic(Struct, frozen=True, kw_only=True, tag=True):
    """Give an existing guest one more NIC, unconnected and down at the host's end."""

    vm_uuid: str
    nic: GuestNic


class UnplugNic(Struct, frozen=True, kw_only=True, tag=True):
    """Take a NIC away. Nothing to do if the guest does not have it.

    A guest that does not let it go keeps it, and that is a failure; with `force` the NIC's host end goes all the same.
    """

    vm_uuid: str
    device: int
    force: bool = False


class RaiseNic(Struct, frozen=True, kw_only=True, tag=True):
    """Set one NIC's link up, after its port is connected."""

    vm_uuid: str
    device: int


class DepartGuest(Struct, frozen=True, kw_only=True, tag=True):
    """Freeze a running guest that is to go on at another host, with its NICs down: not a frame of it leaves any more.

    It waits, also over a restart of the daemon and when a rollout is taken back: only `RunGuest` lets it go on here, and
    `DestroyGuest` ends it.
    """

    vm_uuid: str


class ReceiveGuest(Struct, frozen=True, kw_only=True, tag=True):
    """Make a guest that comes from another host, and its NICs, as `CreateGuest` does. It waits like one that departs."""

    guest: GuestSpec


GuestAction: TypeAlias = (
    CreateGuest
    | RunGuest
    | PauseGuest
    | ShutDownGuest
    | DestroyGuest
    | SuspendGuest
    | ResumeGuest
    | PlugNic
    | UnplugNic
    | RaiseNic
    | DepartGuest
    | ReceiveGuest
)


class GuestRoute(Struct, frozen=True, kw_only=True):
    """A route inside a guest, by its NIC `eth<device>`; without a gateway when the destination is on the link."""

    device: int
    destination: str
    gateway: str = ""
    metric: int = 0


class GuestImage(Struct, frozen=True, kw_only=True, tag=True):
    """What goes with a guest to another host. `addresses` are (device number of the NIC, address with its length).

    The answer to `ReadGuest`.
    """

    vm_uuid: str
    addresses: tuple[tuple[int, str], ...] = ()
    routes: tuple[GuestRoute, ...] = ()


class Management(Struct, frozen=True, kw_only=True):
    """The management interface that the host's administrator chose at installation."""

    nic: str
    vlan_tag: int = -1
    ip: IpConfig = IpConfig()


class Hello(Struct, frozen=True, kw_only=True, tag=True):
    """Who are you? Answered by `Greeting`."""


class Observe(Struct, frozen=True, kw_only=True, tag=True):
    """What is there now? Answered by `Observation`."""


class Stage(Struct, frozen=True, kw_only=True, tag=True):
    """Plan this desired state against what is there, and remember it under the rollout's id. Answered by `Staged`.

    `guests_before` are carried out before the network changes, `guests_after` after it. With `dry_run` nothing is
    remembered.
    """

    rollout: str
    desired: HostNetwork
    guests_before: tuple[GuestAction, ...] = ()
    guests_after: tuple[GuestAction, ...] = ()
    dry_run: bool = False


class Switch(Struct, frozen=True, kw_only=True, tag=True):
    """Carry out a staged rollout. Answered by `Done` when the observed state matches.

    With `confirm_within_s` the daemon goes back to the last confirmed state unless `Confirm` arrives in that many
    seconds from now, also if it or its caller dies; without, the new state is confirmed at once. With `reachable` too,
    it answers `Done` only when the host can be reached by its management interface, and otherwise goes back.
    """

    rollout: str
    confirm_within_s: float | None = None
    reachable: bool = False


class SwitchBackend(Struct, frozen=True, kw_only=True, tag=True):
    """Let another backend carry out the confirmed network, as a rollout; see `Switch`. Answered by `Done`.

    `backend` is `bridge` or `openvswitch`. Once it is confirmed it is also what the configuration file says.
    """

    rollout: str
    backend: Literal["bridge", "openvswitch"]
    confirm_within_s: float
    reachable: bool = True


class AwaitsConfirm(Struct, frozen=True, kw_only=True, tag=True):
    """Is this rollout carried out, and waits for its confirmation? Answered by `Done`, or `Refused` (UNKNOWN_ROLLOUT)."""

    rollout: str


class Confirm(Struct, frozen=True, kw_only=True, tag=True):
    """Keep the switched state: it becomes the last confirmed one. Answered by `Done`.

    With `alive` it is decided, and everybody else has it: a daemon that went back by itself, because it died or nobody confirmed
    in time, carries it out again. `alive` are the uuids of the VMs that the database has alive on this host, for others' guests
    are not made again.
    """

    rollout: str
    alive: tuple[str, ...] | None = None


class Revert(Struct, frozen=True, kw_only=True, tag=True):
    """Go back to the last confirmed state now. Answered by `Done`."""

    rollout: str


class Restore(Struct, frozen=True, kw_only=True, tag=True):
    """Drop whatever is under way and make the host what was confirmed last. Answered by `Restored`."""


class Watch(Struct, frozen=True, kw_only=True, tag=True):
    """Send `Observation`-less facts now and at every change (`FactsChanged`)."""


class WatchLocks(Struct, frozen=True, kw_only=True, tag=True):
    """Send what locks stop, and when somebody else has changed them (`LocksSeen`), now and whenever there is news."""


class ReadCounters(Struct, frozen=True, kw_only=True, tag=True):
    """The lock counters of these devices, or of all when empty. Answered by `Counters`."""

    devices: tuple[str, ...] = ()


class ReadTraffic(Struct, frozen=True, kw_only=True, tag=True):
    """How many bytes a second go through these interfaces? Answered by `Traffic`."""

    devices: tuple[str, ...]


class TracePacket(Struct, frozen=True, kw_only=True, tag=True):
    """What would the live switch do with this frame from that port? Answered by `Traced`."""

    device: str
    frame_hex: str


class VerifyLocks(Struct, frozen=True, kw_only=True, tag=True):
    """Do the locks of these guest ports hold, as the live switch has them? Answered by `LocksVerified`.

    `ports` say what is wanted; a port whose lock's mode is `disabled` must be on no bridge. At most `VERIFY_PORTS_MAX`.
    With `rules` the answer also tells where the rules of the whole host differ from those that there should be: that
    costs as much for one port as for a thousand.
    """

    ports: tuple[GuestPort, ...]
    rules: bool = True


class Authenticate(Struct, frozen=True, kw_only=True, tag=True):
    """Does PAM accept this user and password? Answered by `Authenticated`. Never logged.

    With `directory` any user of the directory will do, else only those that administer the host.
    """

    user: str
    password: str
    directory: bool = False


class ChangeStorage(Struct, frozen=True, kw_only=True, tag=True):
    """Connect the host to storage, or disconnect it. Answered by `StorageSpace`; it has no part in rollouts."""

    action: StorageAction


class SetHostname(Struct, frozen=True, kw_only=True, tag=True):
    """Change the host's name in the kernel and on disk. Answered by `Done`."""

    hostname: str


class ReadDrift(Struct, frozen=True, kw_only=True, tag=True):
    """What is kept here, and what is there? Answered by `Drift`."""


class ReadGuest(Struct, frozen=True, kw_only=True, tag=True):
    """What goes with this guest, which has departed? Answered by `GuestImage`."""

    vm_uuid: str


class LoadGuest(Struct, frozen=True, kw_only=True, tag=True):
    """Give a guest that was received what comes with it. Answered by `Done`."""

    image: GuestImage


class AskToEnd(Struct, frozen=True, kw_only=True, tag=True):
    """Ask a guest that takes its time (`GuestFacts.asked_first`) to end, and wait for it at most `timeout_s` seconds.

    Answered by `Done`, or `Refused` (GUEST_FAILED). It is no part of a rollout: others may change the host meanwhile. The
    guest is not reported as ended for some seconds, within which a rollout is to come that has `ShutDownGuest`.
    """

    vm_uuid: str
    timeout_s: float = 60.0


class HoldLease(Struct, frozen=True, kw_only=True, tag=True):
    """Stop all guests at `until_ns` (CLOCK_BOOTTIME) unless a later one comes before; from now on, also after a restart.

    `seconds` is how long a lease lasts at most: a time further away counts for as much. A host that has stopped its guests
    takes a lease only when none is left. Answered by `FenceState`, or `Refused` (GUEST_FAILED).
    """

    generation: str
    seconds: float
    until_ns: int


class DropLease(Struct, frozen=True, kw_only=True, tag=True):
    """Stop guests for no lease any more. Answered by `FenceState`."""


class ReadFence(Struct, frozen=True, kw_only=True, tag=True):
    """Is this host to stop its guests, and has it? Answered by `FenceState`."""


class SettleGuest(Struct, frozen=True, kw_only=True, tag=True):
    """Carry out what has become of a guest that waits, outside of a rollout. Answered by `Done`.

    One that runs is announced to the physical network.
    """

    action: RunGuest | DestroyGuest


Command: TypeAlias = (
    Hello
    | Observe
    | Stage
    | Switch
    | SwitchBackend
    | AwaitsConfirm
    | Confirm
    | Revert
    | Restore
    | Watch
    | WatchLocks
    | ReadCounters
    | ReadTraffic
    | TracePacket
    | VerifyLocks
    | Authenticate
    | SetHostname
    | ChangeStorage
    | ReadGuest
    | LoadGuest
    | SettleGuest
    | AskToEnd
    | ReadDrift
    | HoldLease
    | DropLease
    | ReadFence
)


class Request(Struct, frozen=True, kw_only=True):
    """A numbered command."""

    id: int
    command: Command


class Greeting(Struct, frozen=True, kw_only=True, tag=True):
    """The answer to `Hello`. `boot_id` changes when the host boots; `confirmed` is the hash of the confirmed state."""

    version: int
    backend: str
    hostname: str
    boot_id: str
    confirmed: str
    management: Management | None = None


class Observation(Struct, frozen=True, kw_only=True, tag=True):
    """The answer to `Observe`."""

    network: HostNetwork
    facts: HostFacts


class Staged(Struct, frozen=True, kw_only=True, tag=True):
    """The answer to `Stage`: the plan, and its hash."""

    plan: Plan
    plan_hash: str


class Done(Struct, frozen=True, kw_only=True, tag=True):
    """Success, with the facts as they are now."""

    facts: HostFacts


class FenceState(Struct, frozen=True, kw_only=True, tag=True):
    """The answer about leases. `generation` is "" on a host that stops its guests for none.

    `fenced`: the lease ran out. `clean`: no guest is left that runs, or could.
    """

    generation: str = ""
    fenced: bool = False
    clean: bool = True


class Restored(Struct, frozen=True, kw_only=True, tag=True):
    """The answer to `Restore`: what the host is now, and why it cannot be reached even so ("" when it can)."""

    network: HostNetwork
    unreachable: str = ""


class FactsChanged(Struct, frozen=True, kw_only=True, tag=True):
    """One of the answers to `Watch`."""

    facts: HostFacts


class Offence(Struct, frozen=True, kw_only=True):
    """A guest sent what its lock stops, or counts in shadow mode: `did` is in words, `sent ARP for 10.0.0.2`.

    `count` frames of this reason since it was last told of.
    """

    device: str
    reason: str
    did: str
    count: int
    shadow: bool = False


class DriftFound(Struct, frozen=True, kw_only=True):
    """Somebody else has changed the host's network; `repaired` when it was put back."""

    changes: tuple[Change, ...]
    repaired: bool


class Drift(Struct, frozen=True, kw_only=True, tag=True):
    """The answer to `ReadDrift`: the network that the daemon keeps, and the one that is there."""

    applied: HostNetwork
    actual: HostNetwork


class LocksSeen(Struct, frozen=True, kw_only=True, tag=True):
    """One of the answers to `WatchLocks`: the counters of all guest ports that have any, and what is new.

    `repaired` are the changes of the locks by somebody else that were put back, in words; `conflicts` the addresses of
    the host itself that another machine has too; `drifts` the changes of the network by somebody else.
    """

    ports: tuple[PortFacts, ...] = ()
    offences: tuple[Offence, ...] = ()
    repaired: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    drifts: tuple[DriftFound, ...] = ()


class Counters(Struct, frozen=True, kw_only=True, tag=True):
    """The answer to `ReadCounters`."""

    ports: tuple[PortFacts, ...]


class Traced(Struct, frozen=True, kw_only=True, tag=True):
    """The answer to `TracePacket`: whether the frame leaves the port's lock, and the switch's own words.

    `counted` is the reason that it is counted under, or ""; `path` are the rules that it met, in order, in words.
    """

    forwarded: bool
    text: str
    counted: str = ""
    path: tuple[str, ...] = ()


class ClassFound(Struct, frozen=True, kw_only=True):
    """A class of packets whose frames do not all do what the lock says; `frame_hex` is one of them.

    `forwarded` and `counted` (a reason or "") are what becomes of that frame, `wanted` whether it should leave the lock.
    """

    name: str
    frame_hex: str
    forwarded: bool
    counted: str
    wanted: bool


class PortProof(Struct, frozen=True, kw_only=True):
    """What was found out about one guest port.

    `passing` and `stopped` are the classes of packets whose frames all do as they should; `faults` are findings that
    concern no single class, in words. `is_changing`: the host holds another lock than the one asked about, perhaps
    because it was changed just now.
    """

    device: str
    frames: int = 0
    passing: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    wrong: tuple[ClassFound, ...] = ()
    faults: tuple[str, ...] = ()
    is_changing: bool = False


class RuleFound(Struct, frozen=True, kw_only=True):
    """A difference between the rules of the host and those that there should be; `device` is "" if it concerns all ports.

    `bridge` is that of the switch, and "" where there is one set of rules for the host.
    """

    text: str
    bridge: str = ""
    device: str = ""


class LocksVerified(Struct, frozen=True, kw_only=True, tag=True):
    """The answer to `VerifyLocks`: a proof for each port, and what is wrong with the rules of the host."""

    proofs: tuple[PortProof, ...]
    rules: tuple[RuleFound, ...] = ()


class Authenticated(Struct, frozen=True, kw_only=True, tag=True):
    """The answer to `Authenticate`; `reason` is PAM's text when refused."""

    accepted: bool
    reason: str = ""


class LinkRate(Struct, frozen=True, kw_only=True):
    """The bytes a second that an interface of the host has received and sent in the last seconds."""

    device: str
    received_bytes_per_s: float
    sent_bytes_per_s: float


class Traffic(Struct, frozen=True, kw_only=True, tag=True):
    """The answer to `ReadTraffic`: of those interfaces that have been there for some seconds."""

    rates: tuple[LinkRate, ...]


class StorageSpace(Struct, frozen=True, kw_only=True, tag=True):
    """The answer to `ChangeStorage`: whether anything was to be done, and how large and full what is mounted now is.

    Sizes are -1 where nothing is mounted, or nobody knows.
    """

    changed: bool = False
    size_bytes: int = -1
    used_bytes: int = -1


class Fault(StrEnum):
    """Why the daemon refused or failed."""

    MALFORMED = "malformed"  # the request broke the schema
    UNKNOWN_ROLLOUT = "unknown-rollout"
    BUSY = "busy"  # another rollout is between switch and confirm
    SWITCH_FAILED = "switch-failed"  # the switch refused a step; the state before is restored
    GUEST_FAILED = "guest-failed"  # a guest action failed; the state before is restored
    NO_DEVICE = "no-device"  # a NIC or port of the desired state does not exist
    FUNCTIONS_FAILED = (
        "functions-failed"  # NIC `subject` did not get or lose its virtual functions, all of them
    )
    VLAN_IN_USE = "vlan-in-use"  # the kernel has VLAN device `subject` (NIC.TAG) already, and it is not ours
    NOT_VERIFIED = "not-verified"  # applied, but what is observed differs; the state before is restored
    ADDRESS_TAKEN = "address-taken"  # another machine has an address that bridge `subject` should get
    STORAGE_FAILED = "storage-failed"  # `subject` is a `StorageFault`
    UNREACHABLE = (
        "unreachable"  # applied, but nobody could reach the host any more; the state before is restored
    )


class Refused(Struct, frozen=True, kw_only=True, tag=True):
    """The command was not carried out; nothing is changed. `subject` names the bridge, device or guest at fault."""

    fault: Fault
    message: str
    subject: str = ""


Answer: TypeAlias = (
    Greeting
    | Observation
    | Staged
    | Done
    | Restored
    | FactsChanged
    | LocksSeen
    | Counters
    | Traced
    | LocksVerified
    | Authenticated
    | StorageSpace
    | Traffic
    | GuestImage
    | Drift
    | FenceState
    | Refused
)


class Reply(Struct, frozen=True, kw_only=True):
    """The answer to the request of that id."""

    id: int
    answer: Answer
