"""Tune optimizers fairly: each in its own search space, all with equally many trials at the same points."""
