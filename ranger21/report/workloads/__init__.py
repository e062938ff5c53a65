"""Verdicts over several networks and data sets together."""
