"""Time to target: how long runs take to reach a top-1 accuracy that was fixed before they began."""
