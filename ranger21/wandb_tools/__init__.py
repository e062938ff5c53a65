"""Tools for W&B after a run: read, merge and send offline files, and build a workspace."""
