"""The records of a pool as they were at one moment, and questions to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

CLASSES: Final = ("pool", "host", "host_metrics", "network", "PIF", "VLAN", "Bond", "VM", "VIF")
REFERENCES: Final[Mapping[str, Mapping[str, str]]] = {
    "PIF": {"host": "host", "network": "network"},
    "VLAN": {"tagged_PIF": "PIF", "untagged_PIF": "PIF"},
    "Bond": {"master": "PIF"},
    "VIF": {"VM": "VM", "network": "network"},
}
"""Fields that must refer to something that is there."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """Records by class and reference."""

    records: Mapping[str, Mapping[str, Record]]

    def all(self, name: str, **fields: Any) -> Iterator[Record]:
        """The records of a class with these values."""
        return (
            record
            for record in self.records[name].values()
            if all(record[field] == value for field, value in fields.items())
        )

    def one(self, name: str, **fields: Any) -> Record:
        """The only such record."""
        (found,) = self.all(name, **fields)
        return found

    def ref_of(self, name: str, record: Record) -> str:
        """The reference of a record."""
        return next(ref for ref, other in self.records[name].items() if other["uuid"] == record["uuid"])

    def host(self, name: str) -> Record:
        """The host of that name."""
        return self.one("host", name_label=name)

    def live(self) -> set[str]:
        """The names of the hosts that the coordinator hears."""
        metrics = self.records["host_metrics"]
        return {host["name_label"] for host in self.all("host") if metrics[host["metrics"]]["live"]}

    def coordinator(self) -> str:
        """The uuid of the coordinator."""
        (pool,) = self.all("pool")
        return str(self.records["host"][pool["master"]]["uuid"])

    def pif(self, host: str, device: str) -> Record:
        """A host's PIF of that device that is no VLAN's."""
        ref = self.ref_of("host", self.host(host))
        (found,) = (pif for pif in self.all("PIF", host=ref, device=device) if int(pif["VLAN"]) < 0)
        return found

    def hosts_with(self, device: str) -> list[str]:
        """The names of the hosts with a PIF of that device, sorted."""
        return sorted(
            {self.records["host"][pif["host"]]["name_label"] for pif in self.all("PIF", device=device)}
        )

    def dangling(self) -> list[str]:
        """What refers to something that is not there: half of an object."""
        wrong = [
            f"{name} {record['uuid']} has no {field}"
            for name, fields in REFERENCES.items()
            for record in self.all(name)
            for field, cls in fields.items()
            if record[field] not in self.records[cls]
        ]
        untagged = {vlan["untagged_PIF"] for vlan in self.all("VLAN")}
        wrong += [
            f"PIF {pif['device']} {pif['VLAN']} of a VLAN that is not there"
            for ref, pif in self.records["PIF"].items()
            if int(pif["VLAN"]) >= 0 and ref not in untagged
        ]
        bonded = {member for bond in self.all("Bond") for member in bond["slaves"]}
        wrong += [
            f"PIF {pif['device']} of a bond that is not there"
            for ref, pif in self.records["PIF"].items()
            if pif["bond_slave_of"] in self.records["Bond"] and ref not in bonded
        ]
        return wrong
