"""One check for each output schema: what is asked, what counts as signal, how far two answers are apart."""
