"""Drift: how live texts differ from the texts that an encoder was trained with."""
