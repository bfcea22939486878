"""The Open vSwitch backend."""
