"""The decision to train another encoder, and the training run."""
