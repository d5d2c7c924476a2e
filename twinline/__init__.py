"""The `twinline` command: what people run. May import every other package; nothing imports it."""
