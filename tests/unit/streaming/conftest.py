"""The small release, for every test of this folder."""

from tests.fixtures_streaming import preprocessor, world

__all__ = ["preprocessor", "world"]
