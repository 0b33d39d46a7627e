"""Whether a graph and the pipeline around it compute what their references compute."""
