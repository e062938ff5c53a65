"""Faults on purpose: runs that are killed, starved and damaged again and again, and must end as if nothing had been."""
