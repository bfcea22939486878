"""What refuses the use of an external directory? Rules and the API raise these.

Each gives the failure with the parameters really sent; its docstring is what people read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model import failure

if TYPE_CHECKING:
    from poolnet.model.classes.host import Host
    from poolnet.model.types import Ref


@failure.error("current auth_type", "current service_name")
def auth_already_enabled(auth_type: str, service_name: str) -> failure.Parameters:
    """External authentication is enabled on this host already."""
    return auth_type, service_name


@failure.error()
def auth_is_disabled() -> failure.Parameters:
    """External authentication is disabled, so there is no directory to ask."""
    return ()


@failure.error("message")
def auth_service_error(message: str) -> failure.Parameters:
    """The directory cannot be asked."""
    return (message,)


@failure.error("type")
def auth_unknown_type(auth_type: str) -> failure.Parameters:
    """There is no such type of external authentication; poolnet has PAM."""
    return (auth_type,)


@failure.error("host")
def pool_auth_already_enabled(host: Ref[Host]) -> failure.Parameters:
    """External authentication is enabled already on a host of the pool."""
    return (host,)
