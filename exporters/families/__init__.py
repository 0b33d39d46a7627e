"""One module or package for each family of architectures."""
