"""Make a Triton model repository of a release, and run the embedded server on it."""
