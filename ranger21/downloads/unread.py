"""Forms of ImageNet that are recognized but not read: what they are, and what to use instead. Imports no torch."""

from pathlib import Path

from ranger21.downloads.parts import Download
from ranger21.system.errors import UserError

INSTEAD = "Hugging Face's ILSVRC/imagenet-1k or timm/imagenet-1k-wds, Kaggle's copy, or the archives of image-net.org"


def find(source: Path) -> Download | None:
    """Return None; raise a UserError if the folder has TensorFlow's records or FFCV's files."""
    for pattern in ("*", "*/*", "imagenet*/*/*"):
        if records := sorted(source.glob(f"{pattern}.tfrecord*")):
            text = (
                "which TensorFlow Datasets wrote from the official archives and which only TensorFlow reads. Give the "
                "folder with those archives (downloads/manual beside the dataset) as SOURCE, or download"
            )
            raise UserError(f"{source} has TFRecord files, such as {records[0].name}, {text} {INSTEAD}.")
        if files := sorted(source.glob(f"{pattern}.beton")):
            text = "which only FFCV reads and whose images may be resized. Use the images that it was made from"
            raise UserError(f"{source} has {files[0].name}, {text}, or download {INSTEAD}.")
    return None
