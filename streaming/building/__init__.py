"""Build a collection: snapshot, then the log, then the index."""
