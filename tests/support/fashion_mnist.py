"""Small datasets in Fashion-MNIST's file format."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np

from ranger21.config import DataConfig, FashionMNISTConfig
from ranger21.data.datasets.fashion_mnist import FILES

FASHION = FashionMNISTConfig(
    name="fashion_mnist",
    root=None,
    batch_size=4,
    workers=0,
    timeout=300,
    eval_batch_size=4,
    padding=2,
    flip=0.5,
    train_images=60_000,
)


def idx_files(root: Path, train: int = 12, test: int = 5, zipped: bool = False) -> DataConfig:
    """Write a small Fashion-MNIST and return its configuration: image i has pixels of value i and the label i % 10."""
    root.mkdir()
    for name in FILES:
        count = train if name.startswith("train") else test
        values = np.arange(count, dtype=np.uint8)
        pixels = np.repeat(values, 28 * 28) if "images" in name else values % 10
        shape = [count, 28, 28] if "images" in name else [count]
        raw = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes() + pixels.tobytes()
        (root / f"{name}{'.gz' if zipped else ''}").write_bytes(gzip.compress(raw) if zipped else raw)
    return replace(FASHION, root=str(root))
