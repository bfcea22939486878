"""How do this host's NICs get virtual functions, and the functions what their guests need? See spec §14, dataplane D."""
