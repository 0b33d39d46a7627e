"""The data plane: loads models, asks Triton with deadlines, retries, exports on demand."""
