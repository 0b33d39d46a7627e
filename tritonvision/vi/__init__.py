"""Datature Vi's questions and answers: what its Python class and its REST routes have in common."""
