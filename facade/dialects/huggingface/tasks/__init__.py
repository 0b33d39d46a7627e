"""Hugging Face's tasks beyond boxes and classes."""
