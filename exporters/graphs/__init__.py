"""ONNX graphs: written, checked, read from TFLite."""
