"""What the configuration of poolnet-api may say, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from poolnet.api.config import DEFAULT_CONFIG, ApiConfig, ConfigError, load_config, rooted


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "api.toml"
    path.write_text(text)
    return path


def test_a_file_says_only_what_differs(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, 'https_port = 8443\nhttp_port = 0\nlisten = "::1"\n'))
    assert config == ApiConfig(https_port=8443, http_port=0, listen="::1")
    assert (config.state_dir, config.socket) == ("/var/lib/poolnet/api", "/run/poolnet/xapi.sock")


def test_the_standard_file_may_be_missing_and_a_given_one_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOLNET_ROOT", str(tmp_path))
    assert load_config(None) == ApiConfig()
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "other.toml")
    standard = rooted(DEFAULT_CONFIG)
    standard.parent.mkdir(parents=True)
    standard.write_text("https_port = 1\n")
    assert load_config(None).https_port == 1


@pytest.mark.parametrize(
    "text",
    [
        "colour = 1",
        "https_port = 0",
        "https_port = 65536",
        'http_port = "80"',
        "http_port = -1",
        'listen = "everywhere"',
        'state_dir = "here"',
        'socket = "run/xapi.sock"',
        "default_config = 1",
        "not TOML",
    ],
)
def test_what_cannot_be_used_is_one_line_that_names_the_file(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_what_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for path in (binary, tmp_path):
        with pytest.raises(ConfigError):
            load_config(path)


def test_a_root_is_put_before_standard_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POOLNET_ROOT", raising=False)
    assert rooted("/run/poolnet") == Path("/run/poolnet")
    monkeypatch.setenv("POOLNET_ROOT", str(tmp_path))
    assert rooted("/run/poolnet") == tmp_path / "run/poolnet"
