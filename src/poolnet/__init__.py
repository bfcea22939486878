"""Pool-wide network management for Linux virtualization hosts."""

__version__ = "0.1.0"
