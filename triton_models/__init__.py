"""Write a release's models into a Triton model repository, and run the embedded server on it."""
