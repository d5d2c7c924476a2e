"""Export, parity, quality and packaging of the encoder."""
