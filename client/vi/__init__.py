"""``ViModel``: a model that reads pictures and writes, asked as Datature Vi's documentation shows."""
