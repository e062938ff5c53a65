"""Loss landscapes: the loss over two directions in the space of a model's weights, and the sharpness of minima."""
