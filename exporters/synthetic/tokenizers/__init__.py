"""Small tokenizers in the shape of real ones, for networks with random weights."""
