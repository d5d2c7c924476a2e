"""The registry: versions as Git tags, files in the DVC remote, runs as DVC experiments."""
