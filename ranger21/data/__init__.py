"""Datasets, their transforms, and the order in which images are used."""
