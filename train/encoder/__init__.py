"""Fine-tuning and evaluation of the encoder."""
