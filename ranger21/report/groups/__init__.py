"""Group runs that differ only in their seed, and compare groups that share model, data and training settings."""
