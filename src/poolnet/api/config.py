"""Where does the API server listen, and where does it keep things? Read once at start from api.toml."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

ROOT_VARIABLE = (
    "POOLNET_ROOT"  # a prefix before all standard paths, for hosts without a mount namespace of their own
)
REFERENCE_SOCKET = Path("/var/lib/xcp/xapi")  # where local clients of the reference look


class ApiConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of poolnet-api; unknown keys are errors. Paths are absolute and not yet prefixed."""

    listen: str = "0.0.0.0"
    https_port: int = 443
    http_port: int = 80
    state_dir: str = "/var/lib/poolnet/api"
    socket: str = "/run/poolnet/xapi.sock"
    hostd_socket: str = "/run/poolnet/hostd.sock"
    reference_socket: str = str(REFERENCE_SOCKET)
    default_config: str = "/etc/poolnet/api.toml"


class ConfigError(Exception):
    """The configuration cannot be used; the text says why."""


def load_config(path: Path | None) -> ApiConfig:
    """Reads a configuration file, or the standard one; a missing standard file means all defaults.

    Raises:
        ConfigError: The file given is not there, is no TOML, or has an unknown key or a wrong type.
    """
    given = path is not None
    path = path or rooted(ApiConfig().default_config)
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
