"""One module per XenAPI class."""
