"""Search: a question in, documents with their lineage out, always from one whole release."""
