"""How is the option of a driver set that decides how many virtual functions its NICs have from the next boot on?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from poolnet.hostd.backend import ApplyFailed
from poolnet.hostd.checkpoint import write_durably
from poolnet.hostd.run import CommandFailed, run
from poolnet.hostd.sriov.modprobe import Damaged, ModuleOption, option_in, value_of, with_value
from poolnet.hostd.sriov.sysfs import Sysfs
from poolnet.hostnet.protocol import Fault

LOG = structlog.stdlib.get_logger("poolnet.hostd.sriov")
IMAGE_S: Final = 180.0


class DriverOptions:
    """The files of drivers in the directory of modprobe, usually /etc/modprobe.d."""

    def __init__(
        self,
        directory: Path,
        sysfs: Sysfs,
        is_list: Callable[[str, str], Awaitable[bool]],
        rebuild_image: Callable[[], Awaitable[None]],
    ) -> None:
        """Both callables may raise CommandFailed.

        `is_list` says whether a driver's option takes a value for each device; `rebuild_image` makes the image anew from
        which the kernel loads its first drivers.
        """
        self._directory = directory
        self._sysfs = sysfs
        self._is_list = is_list
        self._rebuild_image = rebuild_image

    def read(self, driver: str) -> tuple[ModuleOption | None, str]:
        """The option of a driver, None if it has none; and what is wrong with its file, "" if nothing is."""
        try:
            return option_in(self._text(driver)), ""
        except Damaged as error:
            return None, f"{self._path(driver)}: {error}"

    def is_set(self, driver: str, total: int) -> bool:
        """Whether the file asks for all functions that there may be, of at most `total`, for each NIC of the driver."""
        option, _ = self.read(driver)
        if option is None:
            return False
        values = set(value_of(self._text(driver), driver, option.param).split(","))
        return values == {str(min(total, option.count_max))}

    async def set_count(self, driver: str, count: int) -> None:
        """Asks for that many functions, or for as many as there may be, for each NIC of a driver.

        The file is written even if the NICs have that many now: it may say another number, for the next boot. Raises
        ApplyFailed (FUNCTIONS_FAILED); then the file is as it was.
        """
        option, damage = self.read(driver)
        if option is None:
            text = damage or f"{self._path(driver)} names no option for virtual functions"
            raise ApplyFailed(Fault.FUNCTIONS_FAILED, text)
        before = self._text(driver)
        number = str(min(count, option.count_max))
        try:
            devices = self._sysfs.driven_by(driver) if await self._is_list(driver, option.param) else 1
            after = with_value(before, driver, option.param, ",".join([number] * max(1, devices)))
            if after == before:
                return
            self._write(driver, after)
            LOG.info("an option of a driver was set", driver=driver, option=option.param, value=number)
            await self._rebuild_image()
        except (OSError, CommandFailed) as error:
            self._write_back(driver, before)
            raise ApplyFailed(Fault.FUNCTIONS_FAILED, f"{self._path(driver)}: {error}") from error

    def _write_back(self, driver: str, before: str) -> None:
        try:
            if self._text(driver) != before:
                self._write(driver, before)
        except OSError as error:
            LOG.warning("a driver's file could not be put back", driver=driver, error=str(error))

    def _write(self, driver: str, text: str) -> None:
        path = self._path(driver)
        mode = path.stat().st_mode & 0o7777
        write_durably(path, text.encode("utf-8", "surrogateescape"), mode=mode)

    def _text(self, driver: str) -> str:
        if not driver:
            return ""
        try:
            return self._path(driver).read_bytes().decode("utf-8", "surrogateescape")
        except OSError:
            return ""

    def _path(self, driver: str) -> Path:
        return self._directory / f"{driver}.conf"


async def option_is_list(driver: str, param: str) -> bool:
    """Whether a driver's option takes a value for each of its devices, as its module says. Raises CommandFailed."""
    said = await run(["modinfo", "--parameters", driver])
    lines = (line.partition(":") for line in said.stdout.splitlines())
    return any(name.strip() == param and "array of" in text for name, _, text in lines)


async def rebuild_boot_image() -> None:
    """Makes the image anew from which this kernel loads its first drivers, where the system has one.

    Raises CommandFailed.
    """
    release = os.uname().release
    for argv in (
        ["update-initramfs", "-u", "-k", release],
        ["dracut", "-f", f"/boot/initrd-{release}.img", release],
    ):
        if shutil.which(argv[0]) is not None:
            await run(argv, timeout_s=IMAGE_S)
            return
