"""The embedded stack: all processes of one machine, started, supervised and stopped as a whole."""
