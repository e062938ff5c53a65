"""The datasets that `data=` chooses from. A new one is a module here, a file in `configs/data/` and a line below."""

from ranger21.data.datasets.base import DataConfig
from ranger21.data.datasets.fashion_mnist import FashionMNISTConfig
from ranger21.data.datasets.image_folder import ImageFolderConfig, SampleConfig

DATASETS: dict[str, type[DataConfig]] = {
    "imagenet": ImageFolderConfig,
    "sample": SampleConfig,
    "fashion_mnist": FashionMNISTConfig,
}
