"""What refuses a change of SRs and PBDs? The rules raise these.

Each gives the failure with the parameters really sent; its docstring is what people read. What the storage itself refuses
is `SR_BACKEND_FAILURE_<number>`, with the numbers of the reference's drivers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model import failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from poolnet.model.classes.host import Host
    from poolnet.model.classes.pbd import PBD
    from poolnet.model.classes.sr import SR
    from poolnet.model.types import Ref


@failure.error("sr", "host", "pbd")
def pbd_exists(sr: Ref[SR], host: Ref[Host], pbd: Ref[PBD]) -> failure.Parameters:
    """The host has a connection to the storage already."""
    return sr, host, pbd


@failure.error("PBD")
def sr_has_multiple_pbds(pbds: Iterable[Ref[PBD]]) -> failure.Parameters:
    """Several hosts are connected to the storage."""
    return tuple(pbds)


@failure.error("sr")
def sr_has_no_pbds(sr: Ref[SR]) -> failure.Parameters:
    """No host has a connection to the storage."""
    return (sr,)


@failure.error("sr")
def sr_has_pbd(sr: Ref[SR]) -> failure.Parameters:
    """A host is connected to the storage."""
    return (sr,)


@failure.error("sr")
def sr_indestructible(sr: Ref[SR]) -> failure.Parameters:
    """The storage is marked as indestructible."""
    return (sr,)


@failure.error("sr")
def sr_not_attached(sr: Ref[SR]) -> failure.Parameters:
    """No host is connected to the storage."""
    return (sr,)


@failure.error("sr", "host")
def sr_not_sharable(sr: Ref[SR], host: Ref[Host]) -> failure.Parameters:
    """The storage is not shared, and another host uses it."""
    return sr, host


@failure.error("driver")
def sr_unknown_driver(driver: str) -> failure.Parameters:
    """There is no driver of this type."""
    return (driver,)


@failure.error("uuid")
def sr_uuid_exists(uuid: str) -> failure.Parameters:
    """There is storage with this uuid already."""
    return (uuid,)


def sr_backend_failure(number: int, description: str, detail: str = "") -> failure.Failure:
    """The storage refused, or cannot be used as it is configured.

    The parameters are always three, of which the middle one says what is wrong.
    """
    text = f"{description} [opterr={detail}]" if detail else description
    return failure.Failure(f"SR_BACKEND_FAILURE_{number}", "", text, "")
