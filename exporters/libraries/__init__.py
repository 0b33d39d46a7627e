"""Adapters to the libraries that define networks: imports, weights, networks, reference pipelines."""
