"""How does an object refer to a password? The class secret of the XenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message, optional, rw
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from collections.abc import Mapping


@api_class(
    "secret",
    events=False,
    role=Role.POOL_OPERATOR,
    implicit_role=Role.POOL_OPERATOR,
    constructor=True,
    since="midnight-ride",
)
class Secret(Row):
    """A text that only its reference shows in other objects."""

    uuid: str = dynamic(
        default=NO_DEFAULT, read_role=Role.POOL_OPERATOR, doc="The name that it keeps for life, in all pools."
    )
    value: str = rw(default=NO_DEFAULT, read_role=Role.POOL_OPERATOR, doc="The secret text.")
    other_config: Mapping[str, str] = rw(default={}, doc="Further settings, by key.")


MESSAGES = (
    message(
        "introduce",
        {"uuid": "string", "value": "string", "other_config": optional("map:string:string", {})},
        "ref:secret",
        is_async=False,
        flags=("hidden", "secret_args"),
        since="midnight-ride",
        doc="Makes a secret with a known uuid.",
    ),
)
