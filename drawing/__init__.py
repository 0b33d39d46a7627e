"""Drawing results into pictures."""
