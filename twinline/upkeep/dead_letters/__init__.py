"""Dead letters: list, replay, discard and purge messages that could not be indexed."""
