"""Data sets, their transforms, and the order in which they are seen."""
