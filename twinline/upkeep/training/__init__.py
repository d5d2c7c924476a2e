"""Whether to train another encoder, and the run that does."""
