"""The data centre in network namespaces."""
