"""出力データレート(QoS)の制御: limiting what a VM sends. How exactly the limit is kept, `tests/lab/test_rates.py` shows."""

from __future__ import annotations

import functools

import pytest
from bench.streams import measure

from tests.lab.trains import in_guest, on_machine
from tests.manual.console import Console
from tests.waiting import eventually

pytestmark = pytest.mark.lab
KILOBYTE = 1024


def test_a_vif_is_given_a_rate_while_its_vm_runs(console: Console) -> None:
    network = console.network_of("eth1")
    with console.vm("limited", network, "10.88.0.7/24") as vif, console.answering_outside():
        console.type("xe vif-param-set uuid=vif_uuid qos_algorithm_type=ratelimit", vif_uuid=vif)
        console.type("xe vif-param-set uuid=vif_uuid qos_algorithm_params:kbps=100", vif_uuid=vif)
        assert console.param("vif", vif, "qos_algorithm_type") == "ratelimit"
        assert console.param("vif", vif, "qos_algorithm_params", "kbps") == "100"
        console.talks("limited", "10.88.0.1")
        streamed = functools.partial(sent_at, console, 300 * KILOBYTE)
        eventually(lambda: streamed() == pytest.approx(100 * KILOBYTE, rel=0.015), "100 kB/s arrive")
        console.xe("vif-param-set", f"uuid={vif}", "qos_algorithm_params:kbps=200")
        eventually(lambda: streamed() == pytest.approx(200 * KILOBYTE, rel=0.015), "200 kB/s arrive")
        name = ("param-name=qos_algorithm_params", "param-key=kbps")
        console.xe("vif-param-remove", f"uuid={vif}", *name)
        eventually(lambda: streamed() == pytest.approx(300 * KILOBYTE, rel=0.05), "all arrives")
        console.xe("vif-param-add", f"uuid={vif}", "param-name=qos_algorithm_params", "kbps=50")
        eventually(lambda: streamed() == pytest.approx(50 * KILOBYTE, rel=0.015), "50 kB/s arrive")
        console.xe("vif-param-clear", f"uuid={vif}", "param-name=qos_algorithm_params")
        eventually(lambda: streamed() == pytest.approx(300 * KILOBYTE, rel=0.05), "all arrives")


def sent_at(console: Console, offered: int) -> float:
    """How much arrives outside in a second of what the VM sends, in bytes of frames."""
    lab = console.lab.lab
    sender, receiver = in_guest(lab, "limited"), on_machine(lab, "switch")
    return measure("udp", sender, receiver, "10.88.0.1", offered, 1.0).frames_per_s
