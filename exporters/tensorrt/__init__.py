"""TensorRT plans: a graph in fp32 becomes one that carries its precision, and that becomes a plan for one GPU."""
