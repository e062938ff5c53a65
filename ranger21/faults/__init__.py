"""Fault injection: runs that are killed, starved of resources and damaged must end like an undisturbed run."""
