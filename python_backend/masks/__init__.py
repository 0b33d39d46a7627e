"""Instance masks: decoded from logits, encoded as run lengths and outlines."""
