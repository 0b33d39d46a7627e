"""Routes of our own that belong to no vendor."""
