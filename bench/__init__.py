"""Figures, measured side by side in one run. Each command prints one table, or one JSON object with `--json`."""
