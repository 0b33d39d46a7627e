"""Random weights that carry signal, and tokenizers for them."""
