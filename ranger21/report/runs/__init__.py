"""Runs as a report reads them: from run directories, files of records and W&B's files."""
