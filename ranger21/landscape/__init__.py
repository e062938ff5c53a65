"""The loss as a surface over two directions in the space of a model's weights, and how sharp a minimum is."""
