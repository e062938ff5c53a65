"""Draw the figures of a comparison with matplotlib."""
