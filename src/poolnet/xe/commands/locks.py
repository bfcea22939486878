"""Which commands look at the locks of virtual interfaces? They are poolnet's own, and change nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from poolnet.lock.packets import CORPUS
from poolnet.xe.commands.command import Call, Command
from poolnet.xe.refusals import Finished, Refused

JSON: Final = "json"
WHICH: Final = ("uuid", "network-uuid", "all")
_TITLES: Final = {case.name: case.title for case in CORPUS}
_SHOWN_MAX: Final = 20  # findings about the rules of one host

Answer = Mapping[str, Any]


async def _vifs(call: Call) -> tuple[str, ...]:
    """The VIFs that are meant; none for all.

    Raises:
        Refused: not exactly one of the ways to say which.
    """
    given = [name for name in WHICH if name in call.params]
    if len(given) != 1:
        raise Refused("Exactly one of uuid=, network-uuid= and --all is needed")
    if given == ["uuid"]:
        return (await call.find("VIF"),)
    if given == ["network-uuid"]:
        vifs = await call.api("network.get_VIFs", await call.find("network", "network-uuid"))
        if not isinstance(vifs, tuple) or not vifs:
            raise Refused("There are no VIFs on this network")
        return tuple(str(vif) for vif in vifs)
    return ()


async def _ask(call: Call, method: str, *arguments: Any) -> Answer:
    answer: Answer = json.loads(str(await call.api(method, *arguments)))
    return answer


def _name(vif: Answer) -> str:
    return f"VIF {vif['device']} of {vif['vm-name-label']} ({vif['vif']})"


async def _verify(call: Call) -> None:
    answer = await _ask(call, "VIF.verify_locks", await _vifs(call))
    if call.params.flag(JSON):
        await call.client.print(json.dumps(answer, indent=2))
    elif call.printer.minimal:
        await call.printer.list([vif["vif"] for vif in answer["vifs"] if vif["verdict"] == "not proved"])
    else:
        await call.printer.list(_verdicts(answer, each_class="uuid" in call.params))
    if not answer["proved"]:
        await call.printer.finish()
        raise Finished(1)


def _verdicts(answer: Answer, *, each_class: bool) -> list[str]:
    lines: list[str] = []
    for vif in answer["vifs"]:
        shadow = ", in shadow mode: it only counts" if vif["shadow"] else ""
        lines.append(f"{_name(vif)}: {vif['verdict']}{shadow}")
        lines += [f"  {fault}" for fault in vif["faults"]]
        for wrong in vif["wrong"]:
            lines.append(f"  {wrong['class']:<5} {wrong['title']}: {wrong['finding']}")
            lines += [f"        {wrong['packet']}", f"        packet={wrong['frame']}"]
        if each_class:
            lines += _classes(vif)
    for host, found in answer["rules"].items():
        if found:
            lines.append(f"The rules of host {host} are not what they should be:")
            lines += [f"  {text}" for text in found[:_SHOWN_MAX]]
            if len(found) > _SHOWN_MAX:
                lines.append(f"  and {len(found) - _SHOWN_MAX} more")
    return [*lines, _summary(answer)]


def _classes(vif: Answer) -> list[str]:
    words = dict.fromkeys(vif["passing"], "passes") | dict.fromkeys(vif["stopped"], "stopped")
    return [f"  {name:<5} {words[name]:<8} {title}" for name, title in _TITLES.items() if name in words]


def _summary(answer: Answer) -> str:
    counts: dict[str, int] = {}
    for vif in answer["vifs"]:
        counts[vif["verdict"]] = counts.get(vif["verdict"], 0) + 1
    frames = sum(vif["frames"] for vif in answer["vifs"])
    listed = ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "no VIFs"
    return f"{listed}; {frames} packets were traced"


async def _explain(call: Call) -> None:
    vif = await call.find("VIF")
    answer = await _ask(call, "VIF.explain_lock", vif, call.params.required("packet"))
    if call.params.flag(JSON):
        await call.client.print(json.dumps(answer, indent=2))
        return
    lock, switch = answer["lock"], answer["switch"]
    lines = [
        f"{_name(answer)}, {answer['mode']}",
        f"packet  {answer['packet']}",
        f"lock    {'passes' if lock['passes'] else 'stopped'}: {lock['because']}",
        f"switch  {'passes' if switch['passes'] else 'stopped'}"
        + (f", counted as {switch['reason']}" if switch["reason"] else ""),
        *(f"        {rule}" for rule in switch["rules"]),
    ]
    if not answer["agree"]:
        lines.append("The switch does not do what the lock says; see xe vif-lock-verify.")
    await call.printer.list(lines)
    if not answer["agree"]:
        await call.printer.finish()
        raise Finished(1)


async def _counters(call: Call) -> None:
    answer = await _ask(call, "VIF.count_dropped", await _vifs(call))
    if call.params.flag(JSON):
        await call.client.print(json.dumps(answer, indent=2))
        return
    await call.printer.table([_counts(vif) for vif in answer["vifs"]])


def _counts(vif: Answer) -> Sequence[tuple[str, str]]:
    return [
        ("uuid ( RO)", vif["vif"]),
        ("vm-name-label ( RO)", vif["vm-name-label"]),
        ("device ( RO)", vif["device"]),
        ("locking-mode ( RO)", vif["mode"] + (" (shadow)" if vif["shadow"] else "")),
        *_sums("dropped", vif["dropped"], always=True),
        *_sums("would-drop", vif["would-drop"], always=vif["shadow"]),
    ]


def _sums(name: str, counts: Mapping[str, int], *, always: bool) -> list[tuple[str, str]]:
    counted = {reason: number for reason, number in sorted(counts.items()) if number}
    if not counted and not always:
        return []
    each = [(f"{name}-{reason} ( RO)", str(number)) for reason, number in counted.items()]
    return [(f"{name} ( RO)", str(sum(counted.values()))), *each]


COMMANDS: Final = (
    Command(
        name="vif-lock-verify",
        action=_verify,
        optional=(*WHICH, JSON),
        changes=False,
        summary="Proves on the live switch what virtual interfaces can send and what not, one verdict for each class of "
        "packets; give uuid, network-uuid or --all. Exits with 1 if one is not as its lock says. --json for programs.",
    ),
    Command(
        name="vif-lock-explain",
        action=_explain,
        required=("uuid", "packet"),
        optional=(JSON,),
        changes=False,
        summary="Says which rule lets a packet of a virtual interface through or stops it. The packet is one such as "
        "'arp spa=10.0.0.2', 'udp src=10.0.0.9 dport=53', or the frame in hexadecimal digits.",
    ),
    Command(
        name="vif-lock-counters",
        action=_counters,
        optional=(*WHICH, JSON),
        changes=False,
        summary="Counts the frames that the locks of virtual interfaces have stopped, by reason; give uuid, "
        "network-uuid or --all.",
    ),
)
