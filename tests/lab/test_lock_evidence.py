"""What an administrator sees of locks at work: proofs, counters, alerts, shadow mode, and who has changed what."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import XenAPI

from poolnet.lab import machine
from poolnet.lab.state import LABS
from tests.lab.running import RunningLab, running_lab
from tests.waiting import PATIENCE, eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

HOST = "host1"
OWN, STOLEN, FRIEND = "10.0.0.1", "10.0.0.2", "10.0.0.9"
SPOOF = f"ip -4 neigh flush dev eth0; ping -q -n -i 0.2 -w {{}} -I {STOLEN} {FRIEND}"


class Scene:
    """A host with the VM-c, whose VIF is locked, and the VM-b."""

    def __init__(self, lab: RunningLab, backend: str) -> None:
        self.lab = lab
        self.backend = backend
        network = lab.xe(HOST, "network-list", "bridge=xenbr0", "--minimal")
        self.vm = lab.start_vm(HOST, "VM-c", network, f"{OWN}/24")
        lab.guest("VM-c", "ip", "address", "add", f"{STOLEN}/24", "dev", "eth0")
        lab.start_vm(HOST, "VM-b", network, f"{FRIEND}/24")
        self.vif = lab.xe(HOST, "vif-list", "vm-name-label=VM-c", "--minimal")
        lab.xe(HOST, "vif-param-set", f"uuid={self.vif}", "locking-mode=locked", f"ipv4-allowed={OWN}")

    def spoofs(self, seconds: int = 2) -> bool:
        """The guest uses another one's address for so long; whether that works."""
        said = self.lab.guest("VM-c", "sh", "-c", SPOOF.format(seconds), check=False)
        return " 0 received" not in said

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """What `vif-lock-counters` says of the VIF."""
        answer = json.loads(self.lab.xe(HOST, "vif-lock-counters", f"uuid={self.vif}", "--json"))
        counted: Mapping[str, Mapping[str, int]] = answer["vifs"][0]
        return counted

    def alerts(self, name: str) -> str:
        """The texts of the alerts of that name."""
        return self.lab.xe(HOST, "message-list", f"name={name}", "params=body")

    def verify(self) -> tuple[int, str]:
        """Exit code and output of `vif-lock-verify`."""
        pid = self.lab.lab.host(HOST).pid
        words = (*machine.entering(pid), "xe", "vif-lock-verify", "--all")
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60 * PATIENCE)
        return done.returncode, done.stdout + done.stderr

    def log(self) -> str:
        """The log of the API server."""
        path = LABS / self.lab.name / HOST / "var-log" / "poolnet-api.log"
        return Path(path).read_text()


@pytest.fixture(scope="module", params=["openvswitch", "linuxbridge"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    if os.geteuid() != 0:
        pytest.skip("a lab needs root")
    with running_lab(hosts=1, backend=request.param) as lab:
        yield Scene(lab, request.param)


def test_a_locked_vif_is_proved_and_a_packet_explained(scene: Scene) -> None:
    code, said = scene.verify()
    assert code == 0, said
    assert f"VIF 0 of VM-c ({scene.vif}): proved" in said
    assert "VIF 0 of VM-b" in said
    assert "1 unlocked" in said
    explained = scene.lab.xe(HOST, "vif-lock-explain", f"uuid={scene.vif}", f"packet=arp spa={STOLEN}")
    assert f"lock    stopped: it says that {STOLEN} is at" in explained
    assert "switch  stopped, counted as arp" in explained
    assert "ARP with a foreign sender" in explained
    allowed = scene.lab.xe(HOST, "vif-lock-explain", f"uuid={scene.vif}", "packet=arp")
    assert "switch  passes" in allowed


def test_the_lock_of_a_vif_with_a_rate_limit_is_proved_too(scene: Scene) -> None:
    which = f"uuid={scene.vif}"
    limit = ("qos_algorithm_type=ratelimit", "qos_algorithm_params:kbps=1000")
    scene.lab.xe(HOST, "vif-param-set", which, *limit)
    code, said = scene.verify()
    assert code == 0, said
    assert f"VIF 0 of VM-c ({scene.vif}): proved" in said
    scene.lab.xe(HOST, "vif-param-set", which, "qos_algorithm_type=")
    code, said = scene.verify()
    assert code == 0, said


def test_what_a_guest_must_not_send_is_counted_and_told_of_by_name(scene: Scene) -> None:
    while_it_lasts = f"VIF 0 of VM-c sent ARP for {STOLEN}; its lock stopped "
    tries = iter(range(20))

    def told() -> bool:
        assert next(tries, None) is not None
        assert not scene.spoofs(3)
        return while_it_lasts in scene.alerts("VIF_LOCK_VIOLATION")

    eventually(told)
    assert scene.counters()["dropped"]["arp"] > 0
    lab = scene.lab.lab
    client = XenAPI.Session(f"https://127.0.0.1:{lab.host(HOST).https_port}", ignore_ssl=True)
    client.xenapi.login_with_password("root", lab.password)
    properties = client.xenapi.VIF.get_runtime_properties(client.xenapi.VIF.get_by_uuid(scene.vif))
    client.xenapi.session.logout()
    client("close")()
    assert int(properties["lock-dropped-arp"]) > 0
    assert int(properties["lock-dropped"]) >= int(properties["lock-dropped-arp"])
    before = scene.alerts("VIF_LOCK_VIOLATION").count(STOLEN)
    scene.spoofs(4)
    assert scene.alerts("VIF_LOCK_VIOLATION").count(STOLEN) == before  # once is enough for a while


def test_shadow_mode_counts_and_lets_through_and_is_changed_live(scene: Scene) -> None:
    lab, vif = scene.lab, scene.vif
    assert not scene.spoofs()
    lab.xe(HOST, "vif-param-set", f"uuid={vif}", "other-config:lock-shadow=true")
    assert scene.spoofs()
    eventually(lambda: sum(scene.counters()["would-drop"].values()) > 0)
    code, said = scene.verify()
    assert code == 0, said
    assert "in shadow mode: it only counts" in said
    lab.xe(HOST, "vif-param-remove", f"uuid={vif}", "param-name=other-config", "param-key=lock-shadow")
    assert not scene.spoofs()
    dropped = scene.counters()["dropped"]["arp"]
    assert not scene.spoofs()
    eventually(lambda: scene.counters()["dropped"]["arp"] > dropped)


def test_rules_that_somebody_changes_are_put_back_with_an_alert(scene: Scene) -> None:
    lab = scene.lab
    if scene.backend == "openvswitch":
        lab.run(HOST, "ovs-ofctl", "-O", "OpenFlow14", "del-flows", "xenbr0v", "table=11,arp")
        what = "flows of xenbr0v were changed by somebody else and are put back: table=11"
    else:
        lab.run(HOST, "nft", "add element bridge poolnet shadow { vif1.0 }")
        what = "the table of the locks (nftables, bridge poolnet) was changed by somebody else"
    eventually(lambda: what in scene.alerts("VIF_LOCK_ALTERED"))
    code, said = scene.verify()
    assert code == 0, said
    if scene.backend == "openvswitch":
        lab.run(HOST, "ovs-vsctl", "set", "Bridge", "xenbr0v", "fail_mode=standalone")
        eventually(lambda: "ports of guests were changed" in scene.alerts("VIF_LOCK_ALTERED"))
        eventually(lambda: scene.verify()[0] == 0)
        assert not scene.spoofs()
        lab.run(HOST, "ovs-ofctl", "set-frags", "xenbr0v", "normal")
        eventually(lambda: "put back to nx-match" in scene.alerts("VIF_LOCK_ALTERED"))
        assert "frags=nx-match" in lab.run(HOST, "ovs-ofctl", "show", "xenbr0v")


def test_who_changed_a_lock_from_what_to_what_is_in_the_log(scene: Scene) -> None:
    scene.lab.xe(HOST, "vif-param-add", f"uuid={scene.vif}", "param-name=ipv4-allowed", "param-key=10.0.0.7")
    scene.lab.xe(
        HOST, "vif-param-remove", f"uuid={scene.vif}", "param-name=ipv4-allowed", "param-key=10.0.0.7"
    )
    scene.lab.xe(HOST, "vif-param-set", f"uuid={scene.vif}", "other-config:lock-shadow=false")

    def written() -> list[str]:
        found = (line for line in scene.log().splitlines() if "event=lock-changed" in line)
        return [line for line in found if scene.vif in line]

    eventually(lambda: "'lock-shadow': 'false'" in written()[-1])
    lines = [line for line in written() if "_allowed" in line or "locking_mode" in line]
    assert "user=root" in lines[-1]
    assert "method=VIF.remove_ipv4_allowed" in lines[-1]
    assert f"before=\"{{'ipv4_allowed': ['10.0.0.7', '{OWN}']}}\"" in lines[-1]
    assert f"after=\"{{'ipv4_allowed': ['{OWN}']}}\"" in lines[-1]
    assert any("'locking_mode': 'locked'" in line for line in lines)
