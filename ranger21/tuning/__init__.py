"""Tuning: every optimizer's own search space, the same points for all, and what came of the trials."""
