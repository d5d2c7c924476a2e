"""Facts about releases, for people and for programs."""
