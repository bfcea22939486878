"""Which steps lead from NICs with virtual functions (SR-IOV) to others, and what are they after some steps?

`diff` and `advance` ask, for the part of a state that has nothing to do with bridges: a virtual function's frames never
pass through a virtual switch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from poolnet.hostnet.state import HostNetwork, SriovNic, VirtualFunction
from poolnet.hostnet.steps import DisableFunctions, EnableFunctions, SetFunction

FunctionStep: TypeAlias = EnableFunctions | DisableFunctions | SetFunction


def function_steps(
    observed: HostNetwork, settled: HostNetwork, serves: Mapping[str, str]
) -> list[FunctionStep]:
    """Functions are reset before their NIC loses them, and prepared after it has got them.

    `serves` names the bridge of each NIC.
    """
    before = {nic.device: nic for nic in observed.sriov}
    after = {nic.device: nic for nic in settled.sriov}
    resets: list[FunctionStep] = []
    ends: list[FunctionStep] = []
    begins: list[FunctionStep] = []
    sets: list[FunctionStep] = []
    for device in sorted(before.keys() | after.keys()):
        old, new = before.get(device), after.get(device)
        anew = old is None or new is None or old.mode is not new.mode
        had = {} if old is None else {function.address: function for function in old.functions}
        has = {} if new is None else {function.address: function for function in new.functions}
        resets += [
            SetFunction(device=device, old=had[address], new=None)
            for address in sorted(had)
            if anew or address not in has
        ]
        if old is not None and anew:
            ends.append(DisableFunctions(device=device, mode=old.mode, bridge=serves.get(device, "")))
        if new is not None and anew:
            begins.append(EnableFunctions(device=device, mode=new.mode, bridge=serves.get(device, "")))
        sets += [
            SetFunction(device=device, old=None if anew else had.get(address), new=has[address])
            for address in sorted(has)
            if anew or had.get(address) != has[address]
        ]
    return [*resets, *ends, *begins, *sets]


def functions_after(nics: tuple[SriovNic, ...], steps: Iterable[object]) -> tuple[SriovNic, ...]:
    """The NICs after these steps; steps about other things are passed over."""
    found = {nic.device: (nic.mode, {f.address: f for f in nic.functions}) for nic in nics}
    for step in steps:
        match step:
            case EnableFunctions(device=device, mode=mode):
                found[device] = (mode, {})
            case DisableFunctions(device=device):
                found.pop(device, None)
            case SetFunction(device=device) if device not in found:
                pass  # a backend's state, which knows nothing of functions
            case SetFunction(device=device, new=VirtualFunction() as new):
                found[device][1][new.address] = new
            case SetFunction(device=device, old=VirtualFunction(address=address)):
                found[device][1].pop(address, None)
    return tuple(
        SriovNic(device=device, mode=mode, functions=tuple(functions[key] for key in sorted(functions)))
        for device, (mode, functions) in sorted(found.items())
    )
