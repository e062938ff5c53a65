"""Verdicts over several workloads (networks and datasets) together."""
