"""Time to target: how long a run takes to a top-1 that was fixed before it began."""
