"""Classes that a request names: tokens of texts, example boxes, and the selection of answers."""
