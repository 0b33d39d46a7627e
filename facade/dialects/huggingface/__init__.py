"""The dialect of the Hugging Face Inference API."""
