"""Traces: from an answer back to its bytes, and from a document forward to everything made from it."""
