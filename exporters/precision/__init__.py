"""Reduced precision: networks in int8 and bf16, and the gate that their task's answers must pass."""
