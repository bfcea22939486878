"""The OVSDB client."""
