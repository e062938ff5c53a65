"""A run's files: its directory, manifest and checkpoints, written and read."""
