"""The parts of the DAG files: one task is one command, which outlives its worker and its trigger."""
