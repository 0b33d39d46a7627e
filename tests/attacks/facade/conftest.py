"""The facade that is attacked: the one of its other tests, over an engine that answers from memory."""

from houses import house, house_with, picture, served, shared_house, until, whole_house_with  # noqa: F401
