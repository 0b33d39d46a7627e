"""What the exporters need of each library that defines networks: imports, weights, networks, reference pipelines."""
