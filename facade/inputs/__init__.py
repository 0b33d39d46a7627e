"""Pictures of requests, from the forms in which the dialects send them."""
