"""The project's own questions asked of a running search: scored, compared with a baseline, and with other search settings."""
