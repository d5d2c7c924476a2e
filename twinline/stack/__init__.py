"""The embedded stack: what runs on one machine, started, watched and stopped as a whole."""
