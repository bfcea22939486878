"""Whatever happens to VMs on SR-IOV networks, a virtual function is never two VMs', and none is lost.

VMs start (where the pool chooses, or on a host), stop, reboot, crash, are reset, moved to another host by stopping and
starting there, and are refused; a host boots under them; NICs lose and get their functions again. After each of these, what the database says of
functions, VIFs and VMs fits together, and so does what the hosts are told.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from poolnet.hostnet.derive import derive
from poolnet.hostnet.laws import contradictions
from poolnet.model.classes.host import Host
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pci import PCI
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import VmPowerState
from poolnet.model.errors import Failure
from poolnet.model.types import Ref, is_null
from poolnet.rules import startup, vm_power
from tests.unit.rules.sriov_nics import capable, create, follow, hvm, network_of
from tests.unit.rules.world import LOCAL, World

VMS = 6
ALIVE = (VmPowerState.RUNNING, VmPowerState.PAUSED)
EXPECTED = frozenset(
    (
        "NETWORK_SRIOV_INSUFFICIENT_CAPACITY",
        "VM_BAD_POWER_STATE",
        "VM_HAS_PCI_ATTACHED",
        "VIF_IN_USE",
        "PIF_VLAN_STILL_EXISTS",
        "OPERATION_NOT_ALLOWED",
        "VM_REQUIRES_NETWORK",
        "NO_HOSTS_AVAILABLE",
    )
)


class Functions(RuleBasedStateMachine):
    """Two hosts with two NICs each on one SR-IOV network, and a VLAN on one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.w = World.new()

    @initialize(most=st.integers(1, 3))
    def pool(self, most: int) -> None:
        w = self.w
        capable(w, "eth1", "eth2", most=most)
        one, two = create(w, "eth1"), create(w, "eth2")
        tagged = w.txn.get(PIF, w.txn.get(VLAN, w.vlan(two.logical_PIF, 7)).untagged_PIF).network
        networks = [network_of(w, one), network_of(w, two), tagged]
        there = w.host(nics=3)
        capable(w, "eth1", most=most, host=there)
        pif = next(p for p in w.txn.where(PIF, host=there) if p.device == "eth1" and p.physical)
        w.call("network_sriov.create", pif=pif.ref, network=networks[0])
        follow(w, there)
        self.hosts: list[Ref[Host]] = [LOCAL, there]
        self.vms = [
            hvm(w, *[networks[i] for i in picked]) for picked in ((0,), (0,), (1,), (0, 1), (2,), (1, 2))
        ]

    def attempt(machine, method: str, /, **arguments: object) -> None:  # noqa: N805 - messages have a parameter named self
        try:
            machine.w.call(method, **arguments)
        except Failure as failure:
            if failure.code not in EXPECTED:
                raise

    @rule(number=st.integers(0, VMS - 1), paused=st.booleans())
    def start(self, number: int, paused: bool) -> None:
        self.attempt("VM.start", vm=self.vms[number], start_paused=paused, force=False)

    @rule(number=st.integers(0, VMS - 1), host=st.integers(0, 1))
    def start_on(self, number: int, host: int) -> None:
        vm = self.vms[number]
        self.attempt("VM.start_on", vm=vm, host=self.hosts[host], start_paused=False, force=False)

    @rule(
        number=st.integers(0, VMS - 1),
        how=st.sampled_from(
            ["clean_shutdown", "hard_shutdown", "clean_reboot", "hard_reboot", "suspend", "pause"]
        ),
    )
    def end(self, number: int, how: str) -> None:
        self.attempt(f"VM.{how}", vm=self.vms[number])

    @rule(number=st.integers(0, VMS - 1))
    def reset(self, number: int) -> None:
        self.attempt("VM.power_state_reset", vm=self.vms[number])

    @rule(number=st.integers(0, VMS - 1))
    def crash(self, number: int) -> None:
        vm = self.w.txn.get(VM, self.vms[number])
        vm_power.guest_ended(self.w.ctx, vm=vm.ref, domid=vm.domid)

    @rule()
    def boot(self) -> None:
        """This host had its power cut: what ran on it is gone, and its NICs get their functions again."""
        startup.resync(self.w.ctx, self.w.ctx.facts_of(LOCAL))
        follow(self.w)

    @rule(number=st.integers(0, VMS - 1), host=st.integers(0, 1))
    def migrate(self, number: int, host: int) -> None:
        """As its VMs must: live migration is refused, so they are ended and started there."""
        vm = self.vms[number]
        self.attempt("VM.hard_shutdown", vm=vm)
        self.attempt("VM.start_on", vm=vm, host=self.hosts[host], start_paused=False, force=False)

    @rule(number=st.integers(0, VMS - 1), host=st.integers(0, 1))
    def migrate_live(self, number: int, host: int) -> None:
        """Refused, whatever state it is in: what has a function stays with it."""
        before = self.w.txn.get(VM, self.vms[number]).resident_on
        self.attempt("VM.pool_migrate", vm=self.vms[number], host=self.hosts[host], options={})
        assert self.w.txn.get(VM, self.vms[number]).resident_on == before

    @rule(again=st.booleans())
    def replug(self, again: bool) -> None:
        logical = min(self.w.txn.all(NetworkSriov), key=lambda sriov: sriov.uuid).logical_PIF
        self.attempt("PIF.plug" if again else "PIF.unplug", self=logical)
        follow(self.w)

    @rule(host=st.integers(0, 1))
    def report(self, host: int) -> None:
        follow(self.w, self.hosts[host])

    @invariant()
    def functions_and_vms_fit(self) -> None:
        w = self.w
        holders: dict[str, str] = {}
        for vif in w.txn.all(VIF):
            vm = w.txn.get(VM, vif.VM)
            if is_null(vif.reserved_pci):
                assert vm.power_state not in ALIVE, "a VM runs without its function"
                continue
            assert vm.power_state in ALIVE, "a VM that does not run has a function"
            assert vif.reserved_pci not in holders, "two VIFs have one function"
            holders[vif.reserved_pci] = vm.ref
            pci = w.txn.get(PCI, vif.reserved_pci)
            assert pci.attached_VMs == (vm.ref,)
            assert pci.host == vm.resident_on
        for pci in w.txn.all(PCI):
            assert pci.attached_VMs == ((holders[pci.ref],) if pci.ref in holders else ()), (
                "a function is lost"
            )
        for vm in w.txn.all(VM):
            assert sorted(vm.attached_PCIs) == sorted(
                ref for ref, holder in holders.items() if holder == vm.ref
            )

    @invariant()
    def hosts_are_told_the_same(self) -> None:
        for host in getattr(self, "hosts", ()):
            state = derive(self.w.txn, host)
            assert contradictions(state) == ()
            told = {function.address for nic in state.sriov for function in nic.functions}
            held = {pci.pci_id for pci in self.w.txn.where(PCI, host=host) if pci.attached_VMs}
            assert told == held


Functions.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestFunctions = Functions.TestCase
