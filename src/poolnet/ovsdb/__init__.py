"""An OVSDB client for asyncio (RFC 7047); used by db and hostd, knows neither."""
