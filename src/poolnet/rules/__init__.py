"""What may happen: one module per XenAPI class, functions of a transaction."""
