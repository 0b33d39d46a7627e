"""Weights to published models: what `tritonvision export` does. Serving imports nothing of this."""
