"""The command table, one module per family."""
