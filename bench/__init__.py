"""Figures, measured side by side in one run. Each command prints tables, or one JSON object with `--json`."""
