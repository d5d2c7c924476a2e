"""Files made to harm: no ingest ends by them, and no neighbour is missing."""
