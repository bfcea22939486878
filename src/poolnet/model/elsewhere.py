"""Which classes do fields refer to that poolnet does not keep? Markers, so that `Ref[VDI]` means something.

Such references are always null or empty here; clients see the fields because the records have them.
"""

from __future__ import annotations

from poolnet.model.types import Row


class Blob(Row):
    """A file kept for an object."""

    __slots__ = ()


class Console(Row):
    """A VM's console."""

    __slots__ = ()


class Crashdump(Row):
    """What a VM's crash left."""

    __slots__ = ()


class DRTask(Row):
    """A disaster recovery."""

    __slots__ = ()


class HostCpu(Row):
    """A physical CPU."""

    __slots__ = ()


class HostCrashdump(Row):
    """What a host's crash left."""

    __slots__ = ()


class HostPatch(Row):
    """An old-style update on a host."""

    __slots__ = ()


class PGPU(Row):
    """A physical GPU."""

    __slots__ = ()


class PoolUpdate(Row):
    """An update of the pool."""

    __slots__ = ()


class PUSB(Row):
    """A physical USB device."""

    __slots__ = ()


class Repository(Row):
    """A source of updates."""

    __slots__ = ()


class VBD(Row):
    """A VM's link to a virtual disk."""

    __slots__ = ()


class VDI(Row):
    """A virtual disk."""

    __slots__ = ()


class VGPU(Row):
    """A VM's GPU."""

    __slots__ = ()


class VMAppliance(Row):
    """VMs that start and stop together."""

    __slots__ = ()


class VMGroup(Row):
    """VMs that are placed together or apart."""

    __slots__ = ()


class VMPP(Row):
    """A protection policy (removed from the API)."""

    __slots__ = ()


class VMSS(Row):
    """A snapshot schedule."""

    __slots__ = ()


class VTPM(Row):
    """A VM's trusted platform module."""

    __slots__ = ()


class VUSB(Row):
    """A VM's USB device."""

    __slots__ = ()
