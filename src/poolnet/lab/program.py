"""Where do a host's services find their programs? Asked by `poolnet init`.

An installation that every user can read is used where it is. A checkout, or one below somebody's home, is not: the API
server's user cannot enter /root, and a host must not change because somebody edits a file. It is copied to /usr/local/lib/poolnet,
with the libraries that it needs and nothing else, and without asking any other machine.
"""

from __future__ import annotations

import compileall
import re
import shutil
import sys
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import poolnet

PLACE = Path("/usr/local/lib/poolnet")
_PRIVATE = (Path("/root"), Path("/home"), Path("/run/user"))
_LINKS = ("xe", "poolnet", "xe-switch-network-backend")  # for the shells of administrators
_LINKS_IN = Path("usr/local/bin")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_SCRIPT = """#!{python}
import sys

from {module} import {function}

if __name__ == "__main__":
    sys.exit({function}())
"""


def programs(root: Path, packaging: Path) -> Path:
    """The directory of the programs that the units start, below the file system `root`; installed there if need be.

    `packaging` is the directory of the units, which the copy gets as well. Raises OSError.
    """
    if _is_for_everybody():
        return Path(sys.executable).parent
    _install(root / PLACE.relative_to("/"), packaging)
    for name in _LINKS:
        link = root / _LINKS_IN / name
        if not link.exists() and not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(PLACE / "bin" / name)
    return PLACE / "bin"


def _is_for_everybody() -> bool:
    package, prefix = Path(poolnet.__file__).resolve(), Path(sys.prefix).resolve()
    if not package.is_relative_to(prefix):
        return False  # a checkout
    if any(prefix.is_relative_to(place) for place in _PRIVATE):
        return False
    return all(directory.stat().st_mode & 0o005 == 0o005 for directory in (prefix, *prefix.parents))


def _install(place: Path, packaging: Path) -> None:
    """Makes the installation anew beside the old one, and puts it in its place."""
    fresh, old = place.with_name(f".{place.name}.new"), place.with_name(f".{place.name}.old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    venv.EnvBuilder(symlinks=True, with_pip=False).create(fresh)
    libraries = fresh / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    package = Path(poolnet.__file__).parent
    shutil.copytree(package, libraries / "poolnet")
    shutil.copytree(packaging, libraries / "poolnet" / "packaging", dirs_exist_ok=True)
    for needed in _needed("poolnet"):
        _copy(needed, libraries)
    for script in metadata.distribution("poolnet").entry_points.select(group="console_scripts"):
        path = fresh / "bin" / script.name
        module, _, function = script.value.partition(":")
        path.write_text(_SCRIPT.format(python=PLACE / "bin/python", module=module, function=function))
        path.chmod(0o755)
    compileall.compile_dir(libraries, quiet=1)
    _let_all_read(fresh)
    if place.exists():
        place.rename(old)
    fresh.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def _needed(name: str) -> Iterator[metadata.Distribution]:
    """The distributions that one needs, each once, without extras; itself not."""
    seen, waiting = {name.lower()}, [name]
    while waiting:
        for requirement in metadata.distribution(waiting.pop()).requires or ():
            found = _NAME.match(requirement)
            if found is None or "extra ==" in requirement or found[0].lower() in seen:
                continue
            seen.add(found[0].lower())
            try:
                yield metadata.distribution(found[0])
            except metadata.PackageNotFoundError:  # for another system, or another Python
                continue
            waiting.append(found[0])


def _copy(distribution: metadata.Distribution, libraries: Path) -> None:
    """Copies what a distribution has in its library directory; its programs are not needed."""
    for file in distribution.files or ():
        if ".." in file.parts:
            continue
        source, target = Path(str(file.locate())), libraries / file
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def _let_all_read(directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            executable = 0o055 if path.is_dir() or mode & 0o100 else 0o044
            path.chmod((mode & 0o777 & ~0o022) | executable)
