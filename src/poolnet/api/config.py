"""Where does the API server listen, and where does it keep things? Read once at start from api.toml."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import msgspec

from poolnet.pool.pace import USUAL_SILENCE_S

ROOT_VARIABLE = (
    "POOLNET_ROOT"  # a prefix before all standard paths, for hosts without a mount namespace of their own
)
DEFAULT_CONFIG = "/etc/poolnet/api.toml"
REFERENCE_SOCKET = "/var/lib/xcp/xapi"  # where local clients of the reference look

_Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
_AbsolutePath = Annotated[str, msgspec.Meta(pattern="^/")]


class ApiConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of poolnet-api; unknown keys are errors. Paths are absolute and not yet prefixed.

    `listen` is an address, IPv4 or IPv6, or "" for all of both. An `http_port` of 0 closes the door without TLS. The
    `pool_port` is that of the door between the hosts of a pool, the same on all of them; it is closed on a host that never
    was in a pool of several. A host of the pool whose connection is silent for `pool_silence_s` seconds is taken to be
    cut off; the other times of a pool follow from it (`pool/pace.py`).
    """

    listen: str = ""
    https_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 443
    http_port: _Port = 80
    pool_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 9443
    pool_silence_s: Annotated[float, msgspec.Meta(ge=1.0, le=600.0)] = USUAL_SILENCE_S
    state_dir: _AbsolutePath = "/var/lib/poolnet/api"
    socket: _AbsolutePath = "/run/poolnet/xapi.sock"
    hostd_socket: _AbsolutePath = "/run/poolnet/hostd.sock"
    reference_socket: _AbsolutePath = REFERENCE_SOCKET

    def __post_init__(self) -> None:
        """Raises ValueError if there is no such address."""
        if self.listen:
            ip_address(self.listen)


class ConfigError(Exception):
    """The configuration cannot be used; the text says why."""


def load_config(path: Path | None) -> ApiConfig:
    """Reads a configuration file, or the standard one; a missing standard file means all defaults.

    Raises:
        ConfigError: The file given is not there, is no TOML, or has an unknown key or a wrong type.
    """
    given = path is not None
    path = path or rooted(DEFAULT_CONFIG)
    try:
        return msgspec.toml.decode(path.read_bytes(), type=ApiConfig)
    except FileNotFoundError as error:
        if given:
            raise ConfigError(f"{path}: no such file") from error
        return ApiConfig()
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def rooted(path: str | Path) -> Path:
    """A standard path under the root that the environment names, if it names one."""
    root = os.environ.get(ROOT_VARIABLE)
    return Path(root) / Path(path).relative_to("/") if root else Path(path)
