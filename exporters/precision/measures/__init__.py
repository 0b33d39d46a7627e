"""One measure for each output schema: what is asked, what counts as the same answer, how accurate answers are."""
