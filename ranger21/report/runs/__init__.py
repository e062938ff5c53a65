"""Read runs for a report from run directories, record files and offline W&B files."""
