"""What runs a VM on this host."""
