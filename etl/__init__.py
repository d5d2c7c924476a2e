"""The offline line's data: sources to an immutable snapshot, to clean and clustered documents, to training pairs."""
