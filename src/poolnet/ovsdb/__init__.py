"""An OVSDB client for asyncio (RFC 7047)."""
