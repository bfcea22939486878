"""Which fields does each class show on the command line, and how? One table per class."""
