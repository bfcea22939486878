"""What somebody changes on a host by hand is noticed within seconds, told of, and put back, taken over or left, as the pool wants."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.pools import xe
from tests.lab.running import RunningLab, running_lab
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(200)]

NOTICED_WITHIN_S = 5.0
ADDRESS = "10.9.0.1/24"


class Host:
    """One host with an address on `eth1`, on either backend, and what somebody may do to it by hand."""

    def __init__(self, lab: RunningLab, backend: str) -> None:
        self.lab = lab
        self.backend = backend
        self.pif = self.xe("pif-list", "device=eth1", "VLAN=-1", "--minimal")
        words = ("mode=static", "IP=10.9.0.1", "netmask=255.255.255.0")
        self.xe("pif-reconfigure-ip", f"uuid={self.pif}", *words)
        self.pool = self.xe("pool-list", "--minimal")
        self.bridge = self.xe("network-list", f"PIF-uuids:contains={self.pif}", "params=bridge", "--minimal")

    def xe(self, *words: str) -> str:
        return self.lab.xe("host1", *words)

    def run(self, *words: str, check: bool = True) -> str:
        return self.lab.run("host1", *words, check=check)

    def policy(self, policy: str) -> None:
        self.xe("pool-param-set", f"uuid={self.pool}", f"other-config:network-drift={policy}")

    def alerts(self) -> list[str]:
        """The bodies of the alerts about changes by hand, which are forgotten then."""
        listed = self.xe("message-list", "name=HOST_NETWORK_DRIFT", "params=uuid", "--minimal")
        uuids = list(filter(None, listed.split(",")))
        bodies = [self.xe("message-param-get", f"uuid={uuid}", "param-name=body") for uuid in uuids]
        for uuid in uuids:
            self.xe("message-destroy", f"uuid={uuid}")
        return bodies

    def has_alert(self, *texts: str) -> bool:
        return any(all(text in body for text in texts) for body in self.alerts())

    def bridges(self) -> set[str]:
        if self.backend == "openvswitch":
            return set(self.run("ovs-vsctl", "list-br").split())
        listed = json.loads(self.run("ip", "-json", "link", "show", "type", "bridge"))
        return {link["ifname"] for link in listed}

    def delete_bridge(self) -> None:
        if self.backend == "openvswitch":
            self.run("ovs-vsctl", "del-br", self.bridge)
        else:
            self.run("ip", "link", "del", self.bridge)

    def addresses(self) -> set[str]:
        (link,) = json.loads(self.run("ip", "-json", "-4", "address", "show", "dev", self.bridge)) or [{}]
        return {f"{one['local']}/{one['prefixlen']}" for one in link.get("addr_info", ())}


@pytest.fixture(scope="module", params=["openvswitch", "linuxbridge"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host alone, on each backend."""
    with running_lab(hosts=1, nics=2, backend=request.param) as lab:
        yield Host(lab, request.param)


def test_an_address_and_a_bridge_are_put_back(host: Host) -> None:
    host.policy("repair")
    host.run("ip", "address", "del", ADDRESS, "dev", host.bridge)
    eventually(
        lambda: host.has_alert("put back", f"bridge {host.bridge}", "ip.ipv4_address"),
        "the address is missed",
        NOTICED_WITHIN_S,
    )
    assert ADDRESS in host.addresses()
    host.delete_bridge()
    eventually(
        lambda: host.has_alert("put back", f"bridge {host.bridge} is absent"),
        "the bridge is missed",
        NOTICED_WITHIN_S,
    )
    assert host.bridge in host.bridges()
    eventually(lambda: ADDRESS in host.addresses(), "it has its address again", NOTICED_WITHIN_S)
    assert host.xe("host-network-drift") == "host1 is as intended"


def test_what_is_left_is_shown_until_the_pool_wants_it_otherwise(host: Host) -> None:
    host.policy("leave")
    host.run("ip", "address", "del", ADDRESS, "dev", host.bridge)
    eventually(lambda: host.has_alert("left as it is", "ip.ipv4_address"), "it is missed", NOTICED_WITHIN_S)
    code, text = xe(host.lab, "host1", "host-network-drift")
    assert code == 1
    assert text.splitlines()[0] == "host1 differs; the pool's policy is leave"
    (field,) = (line.split() for line in text.splitlines() if "ip.ipv4_address" in line)
    assert field == ["bridge", host.bridge, "ip.ipv4_address", ADDRESS, ADDRESS, "-"]
    said = host.lab.run("host1", "poolnet", "drift", check=False)
    assert f"bridge {host.bridge}: ip.ipv4_address is unset, not {ADDRESS}" in said
    assert host.alerts() == [], "it is told of once"
    assert host.addresses() == set()
    host.policy("repair")
    assert host.addresses() == {ADDRESS}


def test_management_is_put_back_whatever_the_pool_wants(host: Host) -> None:
    host.policy("leave")
    own = host.xe("host-list", "params=address", "--minimal")
    bridge = host.xe("pif-list", "management=true", "params=network-uuid", "--minimal")
    name = host.xe("network-param-get", f"uuid={bridge}", "param-name=bridge")
    host.run("ip", "address", "del", f"{own}/24", "dev", name)
    eventually(lambda: own in host.run("ip", "address", "show", "dev", name), "it is back", NOTICED_WITHIN_S)
    eventually(lambda: host.has_alert("put back", name), "it is told of", NOTICED_WITHIN_S)


def test_an_address_put_beside_is_taken_away_or_left(host: Host) -> None:
    host.policy("repair")
    beside = "10.9.0.77/32"
    host.run("ip", "address", "add", beside, "dev", host.bridge)
    eventually(
        lambda: host.has_alert("put back", f"bridge {host.bridge}: ip.strange_addresses is {beside}"),
        "it is missed",
        NOTICED_WITHIN_S,
    )
    assert host.addresses() == {ADDRESS}


def test_an_address_put_beside_the_managements_is_left_if_the_pool_wants_that(host: Host) -> None:
    """It does not cut the host off; and some put one there that moves between hosts."""
    host.policy("leave")
    beside = "192.0.2.177/32"
    host.run("ip", "address", "add", beside, "dev", "xenbr0")
    eventually(lambda: host.has_alert("left as it is", beside), "it is missed", NOTICED_WITHIN_S)
    assert beside in host.run("ip", "-4", "address", "show", "dev", "xenbr0")
    assert xe(host.lab, "host1", "host-network-drift")[1].splitlines()[-1].split()[2:] == [
        "ip.strange_addresses",
        "-",
        "-",
        beside,
    ]
    host.policy("repair")
    eventually(
        lambda: beside not in host.run("ip", "-4", "address", "show", "dev", "xenbr0"),
        "it is put back",
        NOTICED_WITHIN_S,
    )


def test_what_can_be_taken_over_is_and_the_host_stays_as_it_was_made(host: Host) -> None:
    host.policy("adopt")
    other = "10.9.0.7/24"
    by_hand = f"ip address flush dev {host.bridge}; ip address add {other} dev {host.bridge}"
    host.run("sh", "-c", by_hand)
    eventually(
        lambda: host.xe("pif-param-get", f"uuid={host.pif}", "param-name=IP") == "10.9.0.7",
        "the database has it",
        NOTICED_WITHIN_S,
    )
    assert host.has_alert("taken over", f"the address of {host.bridge} is {other}")
    assert host.addresses() == {other}
    eventually(
        lambda: xe(host.lab, "host1", "host-network-drift")[0] == 0, "nothing differs", NOTICED_WITHIN_S
    )


def test_a_tag_that_is_changed_is_put_back_or_taken_over(host: Host) -> None:
    if host.backend != "openvswitch":
        pytest.skip("this kernel has no VLAN devices; a Linux bridge's tag is the name of one")
    network = host.xe("network-create", "name-label=blue")
    vlan = host.xe("vlan-create", f"pif-uuid={host.pif}", "vlan=20", f"network-uuid={network}")
    bridge = host.xe("network-param-get", f"uuid={network}", "param-name=bridge")
    for policy, tag in (("repair", "20"), ("adopt", "30")):
        host.policy(policy)
        host.run("ovs-vsctl", "set", "port", bridge, "tag=30")
        eventually(lambda: host.has_alert(bridge, "30"), policy, NOTICED_WITHIN_S)
        eventually(
            lambda tag=tag: (  # type: ignore[misc]
                host.run("ovs-vsctl", "get", "port", bridge, "tag").strip() == tag
                and host.xe("pif-param-get", f"uuid={vlan}", "param-name=VLAN") == tag
            ),
            policy,
            NOTICED_WITHIN_S,
        )


@pytest.mark.parametrize("port", ["eth0", "xenbr0"])
def test_a_tag_on_what_carries_the_management_is_put_back(host: Host, port: str) -> None:
    """Either cuts the host off: neither the NIC's port nor the bridge's own is to have a VLAN."""
    if host.backend != "openvswitch":
        pytest.skip("a Linux bridge gives VLANs to no port")
    host.policy("leave")
    host.run("ovs-vsctl", "set", "port", port, "tag=5")
    eventually(
        lambda: host.run("ovs-vsctl", "get", "port", port, "tag").strip() == "[]",
        "it carries all VLANs again",
        NOTICED_WITHIN_S,
    )
    eventually(lambda: host.has_alert(f"{port}: tag 5"), "told of", NOTICED_WITHIN_S)


def test_name_servers_written_by_hand_are_put_back_left_or_taken_over(host: Host) -> None:
    """Those of the management's PIF: they carry nothing, so the pool's policy counts for them too."""
    pif = host.xe("pif-list", "management=true", "--minimal")
    shown = {
        name: host.xe("pif-param-get", f"uuid={pif}", f"param-name={name}")
        for name in ("IP", "netmask", "gateway")
    }
    same = ("mode=static", *(f"{name}={value}" for name, value in shown.items()))
    host.policy("repair")
    host.xe("pif-reconfigure-ip", f"uuid={pif}", *same, "DNS=192.0.2.53")
    ours = "nameserver 192.0.2.53\n"
    assert host.run("cat", "/etc/resolv.conf") == ours

    def by_hand(text: str) -> None:
        host.alerts()
        host.run("sh", "-c", f"printf '{text}' >/etc/resolv.conf")

    by_hand("nameserver 198.51.100.1\n")
    eventually(
        lambda: host.has_alert("put back", "ip.dns_servers is 198.51.100.1, not 192.0.2.53"),
        "the file is missed",
        NOTICED_WITHIN_S,
    )
    assert host.run("cat", "/etc/resolv.conf") == ours
    host.run("rm", "/etc/resolv.conf")
    eventually(
        lambda: host.run("cat", "/etc/resolv.conf", check=False) == ours, "it is there", NOTICED_WITHIN_S
    )
    host.policy("leave")
    by_hand("nameserver 198.51.100.2\n")
    eventually(lambda: host.has_alert("left as it is", "198.51.100.2"), "it is missed", NOTICED_WITHIN_S)
    assert "198.51.100.2" in host.run("cat", "/etc/resolv.conf")
    host.policy("repair")
    eventually(lambda: host.run("cat", "/etc/resolv.conf") == ours, "it is put back", NOTICED_WITHIN_S)
    host.policy("adopt")
    by_hand("nameserver 198.51.100.3\n")
    eventually(
        lambda: host.xe("pif-param-get", f"uuid={pif}", "param-name=DNS") == "198.51.100.3",
        "the database has it",
        NOTICED_WITHIN_S,
    )
    assert host.has_alert("taken over", "198.51.100.3")
    by_hand("options timeout:1\n")
    eventually(
        lambda: host.run("cat", "/etc/resolv.conf") == "nameserver 198.51.100.3\n",
        "what the database has no word for is put back",
        NOTICED_WITHIN_S,
    )
    eventually(
        lambda: xe(host.lab, "host1", "host-network-drift")[0] == 0, "nothing differs", NOTICED_WITHIN_S
    )
    host.policy("repair")
    host.xe("pif-reconfigure-ip", f"uuid={pif}", *same)
