"""What becomes of a joining host's records in the pool's database? See spec §20.2.

The coordinator gets the rows of the joining host's own database, and makes what belongs in the pool: the host, its NICs on
the networks at their positions, its management, its halted VMs. Its identity stays; references are made anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from poolnet.hostnet.derive_bridge import himn
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pif_metrics import PIFMetrics
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vif_metrics import VIFMetrics
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.classes.vm_metrics import VMMetrics
from poolnet.model.enums import VmPowerState
from poolnet.model.types import NULL, Ref, Row
from poolnet.rules.allowed import refresh_vm
from poolnet.rules.context import BRIDGE_PREFIX, CallContext
from poolnet.rules.defaults import free_bridge
from poolnet.rules.features import require_no_ha, the_pool

R = TypeVar("R", bound=Row)

CLASSES = (Host, HostMetrics, Network, PIF, PIFMetrics, VLAN, VM, VMMetrics, VIF)
"""The rows that a joining host tells of."""


def admit(ctx: CallContext, *, uuid: str, rows: Sequence[Row]) -> Ref[Host]:
    """Makes a joining host a host of the pool; it is disabled and not live until it has come.

    Raises:
        HA_IS_ENABLED: The pool has high availability.
        OPERATION_NOT_ALLOWED: It is a host of the pool already, or does not say which host it is.
    """
    require_no_ha(ctx.txn)
    if ctx.txn.where(Host, uuid=uuid):
        raise errors.operation_not_allowed("Host is already part of a pool")
    return _Admission(ctx, uuid, rows).carry_out()


class _Admission:
    def __init__(self, ctx: CallContext, uuid: str, rows: Sequence[Row]) -> None:
        self._ctx = ctx
        self._rows = rows
        hosts = [row for row in self._of(Host) if row.uuid == uuid]
        if len(hosts) != 1:
            raise errors.operation_not_allowed("The joining host does not say who it is")
        self._me = hosts[0]
        self._host: Ref[Host] = ctx.new_ref()
        self._networks: dict[Ref[Network], Ref[Network]] = {}
        self._pifs: dict[Ref[PIF], Ref[PIF]] = {}

    def carry_out(self) -> Ref[Host]:
        self._make_host()
        pifs = [pif for pif in self._of(PIF) if pif.host == self._me.ref]
        for pif in pifs:
            if pif.physical:
                self._networks[pif.network] = self._network_of_nic(pif)
                self._make_pif(pif, self._networks[pif.network])
        for vlan in self._of(VLAN):
            self._make_management_vlan(vlan, pifs)
        self._make_vms()
        self._take_over_unused()
        return self._host

    def _take_over_unused(self) -> None:
        """Takes internal networks over whose bridges have names of their own; generated names are the pool's (spec §20.2)."""
        on_pifs = {pif.network for pif in self._of(PIF)}
        for network in self._of(Network):
            generated = not network.bridge or network.bridge.startswith(BRIDGE_PREFIX)
            if network.ref in on_pifs or generated or himn(network):
                continue
            if self._by_bridge(network.bridge) is None:
                self._take_over(network, network.bridge)

    def _of(self, cls: type[R]) -> list[R]:
        return [row for row in self._rows if isinstance(row, cls)]

    def _found(self, cls: type[R], ref: str) -> R | None:
        return next((row for row in self._of(cls) if row.ref == ref), None)

    def _free_uuid(self, cls: type[Row], uuid: str) -> str:
        """The uuid that an object had, unless another object of the pool has it."""
        return self._ctx.new_uuid() if self._ctx.txn.where(cls, uuid=uuid) else uuid

    def _make_host(self) -> None:
        ctx = self._ctx
        theirs = self._found(HostMetrics, self._me.metrics) or HostMetrics(ref=NULL)
        metrics = ctx.txn.create(
            replace(theirs, ref=ctx.new_ref(), uuid=ctx.new_uuid(), live=False, last_updated=ctx.now)
        )
        control_domain = self._make_control_domain()
        ctx.txn.create(
            replace(
                self._me,
                ref=self._host,
                metrics=metrics,
                control_domain=control_domain,
                enabled=False,
                current_operations={},
                suspend_image_sr=NULL,
                crash_dump_sr=NULL,
                local_cache_sr=NULL,
            )
        )

    def _make_control_domain(self) -> Ref[VM]:
        theirs = self._found(VM, self._me.control_domain)
        if theirs is None:
            return NULL
        return self._make_vm(theirs, resident_on=self._host)

    def _make_vm(self, vm: VM, *, resident_on: Ref[Host]) -> Ref[VM]:
        ctx = self._ctx
        metrics = self._found(VMMetrics, vm.metrics)
        ref: Ref[VM] = ctx.new_ref()
        nothing: dict[str, Any] = dict.fromkeys(
            (
                "suspend_VDI",
                "scheduled_to_be_resident_on",
                "guest_metrics",
                "snapshot_of",
                "parent",
                "protection_policy",
                "snapshot_schedule",
                "appliance",
                "suspend_SR",
            ),
            NULL,
        )
        ctx.txn.create(
            replace(
                vm,
                ref=ref,
                uuid=self._free_uuid(VM, vm.uuid),
                metrics=self._copied(metrics) if metrics is not None else NULL,
                resident_on=resident_on,
                affinity=self._host if vm.affinity == self._me.ref else NULL,
                current_operations={},
                groups=(),
                **nothing,
            )
        )
        return ref

    def _copied(self, row: R) -> Ref[R]:
        """Makes a row of the joining host that refers to nothing."""
        return self._ctx.txn.create(replace(row, ref=self._ctx.new_ref(), uuid=self._ctx.new_uuid()))  # type: ignore[call-arg]

    # --- networks ----------------------------------------------------------------------------------------------

    def _network_of_nic(self, pif: PIF) -> Ref[Network]:
        """The pool's network at the NIC's position, which its bridge is named after; or the host's own, taken over."""
        network = self._found(Network, pif.network)
        if network is None:
            raise errors.operation_not_allowed(f"The network of {pif.device[:64]} is missing")
        there = self._by_bridge(network.bridge)
        return there.ref if there is not None else self._take_over(network, network.bridge)

    def _by_bridge(self, bridge: str) -> Network | None:
        found = (each for each in self._ctx.txn.all(Network) if each.bridge == bridge)
        return next(found, None) if bridge else None

    def _take_over(self, network: Network, bridge: str) -> Ref[Network]:
        ref: Ref[Network] = self._ctx.new_ref()
        uuid = self._free_uuid(Network, network.uuid)
        cleared: dict[str, Any] = {"current_operations": {}, "assigned_ips": {}, "blobs": {}}
        self._ctx.txn.create(replace(network, ref=ref, uuid=uuid, bridge=bridge, **cleared))
        return ref

    def _network_of_vif(self, ref: Ref[Network]) -> Ref[Network]:
        """The network for a VM's VIF: by name, else by bridge, else the host's own is taken over."""
        network = self._found(Network, ref)
        if network is None:
            return NULL
        txn = self._ctx.txn
        if himn(network):
            return next((each.ref for each in txn.all(Network) if himn(each)), NULL)
        named = next(iter(txn.by_name_label(Network, network.name_label)), None)
        known = named or self._by_bridge(network.bridge)
        if known is not None:
            return known.ref
        taken = {each.bridge for each in txn.all(Network)}
        own = network.bridge and not network.bridge.startswith(BRIDGE_PREFIX) and network.bridge not in taken
        return self._take_over(network, network.bridge if own else free_bridge(self._ctx, taken))

    # --- interfaces --------------------------------------------------------------------------------------------

    def _make_pif(self, pif: PIF, network: Ref[Network], **fields: Any) -> Ref[PIF]:
        ctx = self._ctx
        metrics = self._found(PIFMetrics, pif.metrics)
        made: dict[str, Any] = {
            "ref": ctx.new_ref(),
            "uuid": ctx.new_uuid(),
            "host": self._host,
            "network": network,
            "bond_slave_of": NULL,
            "VLAN_master_of": NULL,
            "PCI": NULL,
            **fields,
        }
        if "metrics" not in made:
            made["metrics"] = (
                self._copied(metrics)
                if metrics is not None
                else ctx.txn.create(PIFMetrics(ref=ctx.new_ref(), uuid=ctx.new_uuid()))
            )
        self._pifs[pif.ref] = made["ref"]
        return ctx.txn.create(replace(pif, **made))

    def _make_management_vlan(self, vlan: VLAN, pifs: Sequence[PIF]) -> None:
        """Puts the management VLAN of the host on the network of the coordinator's management."""
        ctx = self._ctx
        untagged = next((pif for pif in pifs if pif.ref == vlan.untagged_PIF and pif.management), None)
        tagged = ctx.txn.find(PIF, self._pifs.get(vlan.tagged_PIF, NULL))
        coordinator = the_pool(ctx.txn).master
        theirs = next((pif for pif in ctx.txn.where(PIF, host=coordinator) if pif.management), None)
        if untagged is None or tagged is None or theirs is None:
            return
        ref: Ref[VLAN] = ctx.new_ref()
        made = self._make_pif(untagged, theirs.network, metrics=tagged.metrics, VLAN_master_of=ref)
        ctx.txn.create(replace(vlan, ref=ref, uuid=ctx.new_uuid(), tagged_PIF=tagged.ref, untagged_PIF=made))

    # --- VMs ---------------------------------------------------------------------------------------------------

    def _make_vms(self) -> None:
        """Takes over the VMs that are halted, and templates, with their VIFs."""
        txn = self._ctx.txn
        for vm in self._of(VM):
            if vm.is_control_domain or vm.power_state is not VmPowerState.HALTED:
                continue
            if txn.where(VM, uuid=vm.uuid) or (
                vm.is_default_template and txn.by_name_label(VM, vm.name_label)
            ):
                continue
            ref = self._make_vm(vm, resident_on=NULL)
            for vif in self._of(VIF):
                network = self._network_of_vif(vif.network) if vm.ref == vif.VM else NULL
                if network != NULL:
                    self._make_vif(vif, ref, network)
            refresh_vm(txn, ref)

    def _make_vif(self, vif: VIF, vm: Ref[VM], network: Ref[Network]) -> None:
        ctx = self._ctx
        metrics = VIFMetrics(ref=ctx.new_ref(), uuid=ctx.new_uuid(), last_updated=ctx.now)
        ctx.txn.create(
            replace(
                vif,
                ref=self._ctx.new_ref(),
                uuid=self._free_uuid(VIF, vif.uuid),
                VM=vm,
                network=network,
                metrics=ctx.txn.create(metrics),
                currently_attached=False,
                current_operations={},
                reserved_pci=NULL,
            )
        )
