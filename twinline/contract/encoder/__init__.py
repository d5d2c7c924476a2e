"""The encoder's contract: specification, tokens, chunks, pooling and golden texts."""
