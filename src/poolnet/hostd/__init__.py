"""Makes it so on one host, as root: observe, apply, revert."""
