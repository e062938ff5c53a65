"""A damaged pack either is read correctly, or gives an error message that names it; with both front ends."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.image_files import RGB, saved
from support.training import TINY

from ranger21.config import ImageFolderConfig
from ranger21.config.compose import compose_config
from ranger21.data.build import build_data
from ranger21.data.pack import FACTS, PackRecipe, require_pack
from ranger21.data.sources import FolderSource
from ranger21.packing.make import damaged_shards, make_pack
from ranger21.system.errors import UserError

Result = torch.Tensor | str


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> ImageFolderConfig:
    """A dataset of two classes, with six training and two validation images."""
    root = tmp_path_factory.mktemp("packed") / "data"
    for i in range(8):
        place = root / ("val" if i > 5 else "train") / f"n{i % 2}" / f"{i}.JPEG"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(saved(RGB.rotate(10 * i)))
    return compose_config([*TINY, f"data.root={root}"]).data


def packed(folder: ImageFolderConfig, target: Path, kind: str) -> ImageFolderConfig:
    data = build_data(folder, 0)
    sources: dict[str, FolderSource] = {"train": data.train.source, "val": data.val.source}
    quality = (95, "4:4:4") if kind == "jpeg" else (None, None)
    make_pack(sources, folder, PackRecipe(36, "squash", kind, *quality), target, 1)
    return replace(folder, pack=str(target), root=None)


def read_pack(config: ImageFolderConfig) -> list[Result]:
    """Return every image of a pack as both front ends read it: pixels, or the message that recommends --check."""
    results: list[Result] = []
    for front_end in ("pil", "fast"):
        data = build_data(replace(config, transforms=front_end), 0)
        for pictures in (data.train, data.val):
            for image in range(len(pictures)):
                batch = pictures.__getitems__([(0, image)])
                if isinstance(batch, UserError):
                    assert "--check" in str(batch) and str(config.pack) in str(batch), batch
                    results.append(str(batch))
                else:
                    assert batch.images.shape == (1, 3, 32, 32) and batch.images.dtype == torch.uint8
                    results.append(batch.images)
    return results


@pytest.mark.parametrize("kind", ["jpeg", "raw"])
def test_a_pack_with_a_flipped_byte_is_read_or_named_and_check_finds_it(kind, folder, tmp_path):
    """The byte is in a tar header, in an image's header, or in its data."""
    config = packed(folder, tmp_path / "pack", kind)
    archive = tmp_path / "pack" / "train-00000.tar"
    whole, expected = archive.read_bytes(), read_pack(config)
    assert damaged_shards(tmp_path / "pack", 1) == [] and not any(isinstance(r, str) for r in expected)
    for at in [0, 130, 257, *range(512, 512 + 640, 31), *range(1300, len(whole), 1999)]:
        archive.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        results = read_pack(config)
        assert sum(type(r) is not type(e) or bool((r != e).any()) for r, e in zip(results, expected, strict=True)) <= 2
        if at % 3 == 0:
            assert damaged_shards(tmp_path / "pack", 1) == ["train-00000.tar"]


def test_a_pack_that_is_truncated_during_a_run_is_named(folder, tmp_path):
    config = packed(folder, tmp_path / "pack", "jpeg")
    data = build_data(config, 0)  # opened before the archive is truncated
    archive = tmp_path / "pack" / "train-00000.tar"
    whole = archive.read_bytes()
    for keep in (0, 100, 512, 600, len(whole) // 3, len(whole) // 2):
        archive.write_bytes(whole[:keep])
        answers = [data.train.__getitems__([(0, image)]) for image in range(len(data.train))]
        errors = [str(answer) for answer in answers if isinstance(answer, UserError)]
        remedy = "is truncated): to check the whole pack, run python scripts/pack.py"
        assert errors and all(remedy in error and "--check" in error for error in errors)
        assert isinstance(answers[-1], UserError)  # the last image of the archive
        with pytest.raises(UserError, match=rf"train-00000.tar has {keep} bytes instead of {len(whole)}"):
            require_pack(tmp_path / "pack", 36, "squash")


def test_damaged_facts_and_indices_of_a_pack_are_read_or_named(folder, tmp_path):
    config = packed(folder, tmp_path / "pack", "raw")
    for name in (FACTS, "train.npz"):
        path = tmp_path / "pack" / name
        whole, refused = path.read_bytes(), 0
        step = 1 if name == FACTS else 23
        damaged = [whole[:keep] for keep in range(0, len(whole) - 1, 61)]
        damaged += [whole[:at] + bytes([whole[at] ^ 0x03]) + whole[at + 1 :] for at in range(0, len(whole), step)]
        for content in [*damaged, b"[]", b"null", b'"text"', b"{}", b"\xff\xfe"]:
            path.write_bytes(content)
            try:
                read_pack(config)
            except UserError as error:
                assert str(tmp_path / "pack") in str(error) and "\n" not in str(error)
                refused += 1
        assert refused > len(damaged) // 3
        path.write_bytes(whole)
    assert not any(isinstance(result, str) for result in read_pack(config))
