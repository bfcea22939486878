"""What do the packages that the programs need say of themselves? See docs/developer/dependencies.md."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[3]
PINNED: Final = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)[^\n]*\n((?:    --hash=\S+[^\n]*\n?)+)", re.MULTILINE)
LICENCES: Final = ("MIT", "Apache", "BSD", "ISC", "PSF", "Python Software Foundation")


def direct() -> tuple[Requirement, ...]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return tuple(Requirement(text) for text in project["dependencies"])


def needed(requirement: Requirement) -> Iterator[Requirement]:
    """A requirement, and what it needs itself on this machine."""
    yield requirement
    for text in distribution(requirement.name).requires or ():
        one = Requirement(text)
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            yield from needed(one)


@cache
def all_needed() -> dict[str, tuple[Requirement, ...]]:
    found: dict[str, tuple[Requirement, ...]] = {}
    for requirement in direct():
        for one in needed(requirement):
            name = canonicalize_name(one.name)
            found[name] = (*found.get(name, ()), one)
    return found


@cache
def lock() -> dict[str, tuple[str, str]]:
    text = (ROOT / "requirements.lock").read_text().replace(" \\\n", "\n")
    return {canonicalize_name(name): (version, hashes) for name, version, hashes in PINNED.findall(text)}


def licence(package: Distribution) -> str:
    metadata = package.metadata.json
    said = str(metadata.get("license_expression") or metadata.get("license") or "")
    classifiers = package.metadata.get_all("Classifier") or []
    return " ".join((said, *(each for each in classifiers if each.startswith("License"))))


@pytest.mark.parametrize("name", sorted(all_needed()))
def test_a_package_is_pinned_with_hashes_in_the_version_that_is_installed(name: str) -> None:
    version, hashes = lock()[name]
    assert distribution(name).version == version
    assert set(re.findall(r"--hash=(\w+):", hashes)) == {"sha256"}


@pytest.mark.parametrize("name", sorted(all_needed()))
def test_a_package_is_what_all_that_need_it_ask_for(name: str) -> None:
    version = distribution(name).version
    for requirement in all_needed()[name]:
        assert requirement.specifier.contains(version, prereleases=True), requirement


@pytest.mark.parametrize("name", sorted(all_needed()))
def test_a_package_s_licence_goes_with_ours(name: str) -> None:
    assert any(each in licence(distribution(name)) for each in LICENCES), licence(distribution(name))


def test_each_direct_dependency_has_its_line_in_the_decision() -> None:
    page = (ROOT / "docs" / "decisions" / "0004-runtime-dependencies.md").read_text()
    lines = {
        canonicalize_name(name)
        for name in re.findall(r"^\| ([a-z0-9-]+)(?: \([^)]*\))? \|", page, re.MULTILINE)
    }
    assert lines - {"package"} == {canonicalize_name(each.name) for each in direct()}
