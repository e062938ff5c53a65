"""Tests and intervals over a few seeds. Numbers in, numbers out."""
