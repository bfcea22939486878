"""What do all hosts have in common that their states are derived from? It is read once for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from poolnet.db.txn import View
from poolnet.hostnet.derived_before import Shared
from poolnet.hostnet.links import of_network
from poolnet.model.classes.network import Network
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pool import Pool
from poolnet.model.types import Ref


class Read:
    """The rows of the pool and its networks. They hold as long as the view does not change."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.pool = next(iter(view.all(Pool)), None)
        # Without their computed sets, which say nothing here and change with each VIF and PIF.
        stored = ((ref, view.stored(Network, ref)) for ref in view.refs(Network))
        self.networks = {ref: row for ref, row in stored if row is not None}
        self.persistent = tuple(ref for ref, row in self.networks.items() if "persist" in row.other_config)
        """The networks that every host is to have a bridge for."""

    @property
    def shared(self) -> Shared:
        """What another derivation is to compare with."""
        return Shared(self.pool, self.networks, self.persistent)

    @cached_property
    def with_purpose(self) -> frozenset[Ref[Network]]:
        """The networks with a purpose of NBD."""
        return frozenset(ref for ref, row in self.networks.items() if row.purpose)

    @cached_property
    def link_values(self) -> Mapping[Ref[Network], Mapping[str, str]]:
        """The settings of bridges' own interfaces, of the few networks that have any."""
        return {ref: values for ref, row in self.networks.items() if (values := of_network(row))}

    @cached_property
    def has_sriov(self) -> bool:
        """Does any NIC of any host have virtual functions?"""
        return bool(self.view.count(NetworkSriov))
