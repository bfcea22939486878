"""How is it told what joining a pool would do? NIC by NIC, and each obstacle with the commands that remove it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from poolnet.model.errors import ERRORS
from poolnet.rules.explain_admission import Admitted, NicPlan
from poolnet.rules.join_advice import Obstacle


def show_joining(
    host: str, coordinator: str, obstacles: Sequence[Obstacle], admitted: Admitted | None, *, fix: bool
) -> str:
    """The whole text, without a newline at its end; `fix` when joining may remove what it can."""
    left = [each for each in obstacles if not (fix and each.fixed)]
    verdict = "cannot join" if left else "can join"
    lines = [f"host {host} {verdict} the pool of {coordinator}"]
    for obstacle in obstacles:
        lines += _obstacle(obstacle, fix=fix)
    if admitted is not None:
        lines.append("its interfaces would be:" if left else "its interfaces will be:")
        lines += [f"  {_interface(each)}" for each in admitted.interfaces]
        lines += [f"  not made: {text}" for text in admitted.failures]
    return "\n".join(lines)


def _obstacle(obstacle: Obstacle, *, fix: bool) -> Iterator[str]:
    decl = ERRORS.get(obstacle.code)
    text = decl.description if decl is not None else obstacle.code
    params = f" ({', '.join(obstacle.params)})" if obstacle.params else ""
    yield f"obstacle {obstacle.code}: {text}{params}"
    if fix and obstacle.fixed:
        yield "  joining removes it"
        return
    if obstacle.fixed:
        yield "  remove it, or join with --fix:"
    elif obstacle.commands:
        yield "  remove it:"
    else:
        yield "  there is no command that removes it"
    yield from (f"    {command}" for command in obstacle.commands)


def _interface(plan: NicPlan) -> str:
    mac = f" ({plan.mac})" if plan.mac else ""
    kind = "its own network" if plan.is_new else "network"
    besides = f"; {', '.join(plan.besides)}" if plan.besides else ""
    return f"{plan.interface}{mac} -> {kind} {plan.network!r}{besides}"
