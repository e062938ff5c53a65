"""Models: built, given weights from anywhere, and scored on any data."""
