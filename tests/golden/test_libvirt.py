"""What libvirt is told of guests, as it reads it.

The texts were checked by hand, and libvirt itself takes each of them (`tests/lab/test_libvirt.py`): a change of one is a change
of how guests run.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from poolnet.hostd.guests.domain_xml import (
    Mark,
    NotADomain,
    aliases,
    defined,
    fresh,
    mark_of,
    queues,
    restored,
)
from poolnet.hostd.guests.domain_xml import interface as nic_xml
from poolnet.hostnet.protocol import GuestNic, GuestSpec

FOLDER = Path(__file__).parent / "libvirt"
UUID = "4a3cbd52-8a58-4a2a-8e9a-6c4a1d5f0c11"
KNOWN = GuestNic(device=0, mac="52:54:00:00:00:01")
OTHER = GuestNic(device=3, mac="52:54:00:00:00:09", mtu_bytes=9000)
FUNCTION = GuestNic(device=1, mac="52:54:00:00:00:02", function="0000:3b:02.1", vlan_tag=7)
GUEST = GuestSpec(
    vm_uuid=UUID, name="web <1>", domid=12, nics=(KNOWN, FUNCTION, OTHER), memory_bytes=1 << 30, vcpus=2
)


def text(name: str) -> str:
    return (FOLDER / f"{name}.xml").read_text()


def test_a_defined_domain_gets_our_nics_where_its_own_were() -> None:
    assert defined(text("definition"), GUEST, offloads=False) == text("defined")


def test_a_vm_without_a_domain_is_made_of_what_is_known_of_it() -> None:
    assert fresh(GUEST, "kvm", offloads=True) == text("fresh")


def test_a_saved_guest_goes_on_with_the_host_ends_that_it_has_now() -> None:
    saved = defined(text("definition"), spec(KNOWN, OTHER), offloads=False)
    again = restored(saved, spec(KNOWN, OTHER, domid=13))
    assert saved.replace("vif12.", "vif13.").replace('domid="12"', 'domid="13"') == again
    with pytest.raises(NotADomain, match=f"{KNOWN.mac}, {OTHER.mac}"):
        restored(saved, spec(KNOWN, domid=13))


def test_nothing_of_the_definitions_own_networks_is_left() -> None:
    made = defined(text("definition"), spec(), offloads=False)
    assert "<interface" not in made
    assert "virbr0" not in made
    assert "<disk" in made


def test_a_network_card_of_another_make_is_told_nothing_of_offloads() -> None:
    old = text("definition").replace('<model type="virtio" />', '<model type="e1000" />')
    made = defined(old, spec(KNOWN), offloads=False)
    assert '<model type="e1000" />' in made
    assert "csum" not in made


def test_queues_are_those_of_the_definition() -> None:
    assert queues(text("definition"), GUEST.nics) == {0: 4}


def test_one_nic_alone() -> None:
    assert nic_xml(OTHER, 12, offloads=True) == text("nic")


def test_nics_are_found_again_by_their_aliases() -> None:
    assert aliases(text("defined")) == {"ua-poolnet-vif0", "ua-poolnet-vif1", "ua-poolnet-vif3"}


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "<guest",
        "<guest xmlns='urn:poolnet:guest:1'/>",
        "<guest xmlns='urn:poolnet:guest:1' vm='a' domid='x'/>",
        "<guest xmlns='urn:poolnet:guest:1' vm='' domid='1'/>",
    ],
)
def test_a_mark_that_says_nothing_is_nobodys(metadata: str) -> None:
    assert mark_of(metadata) is None


def test_a_mark_says_whose_guest_it_is() -> None:
    text = f"<poolnet:guest xmlns:poolnet='urn:poolnet:guest:1' vm='{UUID}' domid='12'/>"
    assert mark_of(text) == Mark(vm_uuid=UUID, domid=12)


@pytest.mark.parametrize("answer", ["", "<domain", "<network/>"])
def test_what_is_no_domain_is_refused(answer: str) -> None:
    with pytest.raises(NotADomain):
        defined(answer, GUEST, offloads=True)


def test_what_is_no_pci_address_is_refused() -> None:
    with pytest.raises(NotADomain, match="nonsense"):
        nic_xml(GuestNic(device=0, mac=KNOWN.mac, function="nonsense"), 1, offloads=True)


def spec(*nics: GuestNic, domid: int = 12) -> GuestSpec:
    return GuestSpec(vm_uuid=UUID, name="web", domid=domid, nics=nics)
