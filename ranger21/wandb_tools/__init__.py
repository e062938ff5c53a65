"""What is done with W&B's files after a run: read, merged, sent, and shown on a dashboard."""
