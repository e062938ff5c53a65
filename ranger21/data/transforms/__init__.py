"""The transforms of images, from a stored image to uint8 pixels.

A transform converts a stored image and NUMBERS random numbers from U[0, 1) to uint8 pixels (channels, height, width).
`left_to_do` returns the parameters of the operations that are left to the device (`ranger21.data.on_device`). There are
two implementations with the same results for the same numbers: `pil`, the reference, uses torchvision's operations on
Pillow images; `fast` uses tensors, and leaves flip and color jitter to the device.
"""

from ranger21.data.transforms.evaluation import FastEval, PilEval
from ranger21.data.transforms.paper import FastTrain, PilTrain

FRONT_ENDS: dict[str, tuple[type[PilTrain] | type[FastTrain], type[PilEval] | type[FastEval]]] = {
    "pil": (PilTrain, PilEval),
    "fast": (FastTrain, FastEval),
}
