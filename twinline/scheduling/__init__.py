"""What the DAG files are written with: one task is one command, which outlives its worker and its trigger."""
