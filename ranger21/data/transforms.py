"""The recipe's transforms (section 4), with every random number drawn from a generator that is handed in.

A transform takes a picture and a NumPy generator and returns a uint8 tensor of shape (channels, height, width).
Turning it into normalised floats is left to the device, a batch at a time (`ToInput`).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional as F

from ranger21.config import FashionMNISTConfig, ImageFolderConfig

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FASHION_MNIST_MEAN, FASHION_MNIST_STD = (0.2860,), (0.3530,)

Transform = Callable[..., Tensor]
JITTERS = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)


def resized(image: Image.Image, config: ImageFolderConfig) -> Image.Image:
    """RGB, and bilinear with antialias to exactly resize x resize (squash), or its shorter side to resize."""
    size = [config.resize, config.resize] if config.resize_mode == "squash" else [config.resize]
    return F.resize(image.convert("RGB"), size, interpolation=F.InterpolationMode.BILINEAR)


class TrainTransform:
    """Resize, random crop and flip; brightness, contrast, saturation by random factors in random order."""

    def __init__(self, config: ImageFolderConfig) -> None:
        self.config = config

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        config = self.config
        image = resized(image, config)
        left, top = (int(rng.integers(side - config.crop + 1)) for side in image.size)
        image = F.crop(image, top, left, config.crop, config.crop)
        if rng.random() < config.flip:
            image = F.hflip(image)
        strengths = (config.brightness, config.contrast, config.saturation)
        factors = [rng.uniform(1 - strength, 1 + strength) for strength in strengths]
        for which in rng.permutation(len(JITTERS)):
            if strengths[which]:
                image = JITTERS[which](image, factors[which])
        return F.pil_to_tensor(image)


class EvalTransform:
    """The same resize, then the centre crop."""

    def __init__(self, config: ImageFolderConfig) -> None:
        self.config = config

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        return F.pil_to_tensor(F.center_crop(resized(image, self.config), [self.config.crop, self.config.crop]))


class ShiftAndFlip:
    """For small grey pictures, uint8 arrays of (height, width): a random crop of the padded picture, a random flip."""

    def __init__(self, config: FashionMNISTConfig) -> None:
        self.config = config

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> Tensor:
        pad = self.config.padding
        height, width = image.shape
        top, left = rng.integers(2 * pad + 1, size=2)
        image = np.pad(image, pad)[top : top + height, left : left + width]
        if rng.random() < self.config.flip:
            image = image[:, ::-1]
        return torch.from_numpy(image.copy())[None]


def as_is(image: np.ndarray, rng: np.random.Generator) -> Tensor:
    """A grey picture as a tensor."""
    return torch.from_numpy(image.copy())[None]


class ToInput(nn.Module):
    """uint8 (batch, channels, height, width) on any device -> normalised floats: (x / 255 - mean) / std.

    Made in float64; move it to the device and the number format of the model."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        center, spread = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (mean, std))
        self.register_buffer("scale", 1 / (255 * spread), persistent=False)
        self.register_buffer("shift", -center / spread, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return torch.addcmul(self.shift, images.to(self.scale.dtype), self.scale)
