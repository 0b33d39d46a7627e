"""Reduced precision: networks in int8, and the gate that their task's answers must pass."""
