"""出力データレート(QoS)の制御: limiting what a VM sends. How exactly the limit is kept is measured elsewhere."""

from __future__ import annotations

import pytest

from tests.manual.console import Console

pytestmark = pytest.mark.lab


def test_a_vif_is_given_a_rate_while_its_vm_runs(console: Console) -> None:
    network = console.network_of("eth1")
    with console.vm("limited", network, "10.88.0.7/24") as vif, console.answering_outside():
        console.type("xe vif-param-set uuid=vif_uuid qos_algorithm_type=ratelimit", vif_uuid=vif)
        console.type("xe vif-param-set uuid=vif_uuid qos_algorithm_params:kbps=100", vif_uuid=vif)
        assert console.param("vif", vif, "qos_algorithm_type") == "ratelimit"
        assert console.param("vif", vif, "qos_algorithm_params", "kbps") == "100"
        console.talks("limited", "10.88.0.1")
