"""The command line: command table, printers, parameters, and the thin client."""
