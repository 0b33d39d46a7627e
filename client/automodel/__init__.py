"""``AutoModel``: a model by its name, asked with pictures of any kind."""
