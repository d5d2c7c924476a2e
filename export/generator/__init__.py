"""The parts of an export that only generators need."""
