"""From an answer back to its bytes, and from a document forward to all that was made of it."""
