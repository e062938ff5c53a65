"""The training loop and its parts. It knows tensors, steps and ranks, and no configuration, model or data set."""
