"""Writing and checking ONNX graphs, and converting TFLite files to them."""
