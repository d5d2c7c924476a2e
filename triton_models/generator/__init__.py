"""The models of a generator's release: the engine, and the Triton model around it."""
