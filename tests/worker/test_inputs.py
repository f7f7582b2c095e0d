"""Images and labels reach the method as the request says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from store.storage import LocalStorage
from worker.inputs import Images, as_picture, read_images, stated_preprocessing
from worker.problems import JobProblem
from worker.spec import InputRef


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Stores images (N, C, H, W) and labels, and reads them as a job does."""
    storage = LocalStorage(tmp_path)

    def store_and_read(
        images: np.ndarray, labels: list[int], found: list[Any], classes: list[str], size: list[int] | None = None
    ) -> Images:
        with storage.scratch() as folder:
            np.savez(folder / "clean.npz", images=images, labels=np.array(labels))
            stored = storage.adopt(folder / "clean.npz", "files/clean.npz")
        ref = InputRef(
            name="clean",
            bytes=stored.bytes,
            sha256=stored.sha256,
            canonical_path=stored.name,
            canonical_sha256=stored.sha256,
            facts={"classes": found},
        )
        return read_images(storage, ref, {"classes": classes, "preprocessing": {"size": size}})

    return store_and_read


def grey(*levels: float, dtype: Any = np.uint8) -> np.ndarray:
    return np.stack([np.full((3, 4, 4), level, dtype=dtype) for level in levels])


def test_folder_names_become_the_model_s_class_order(read: Any) -> None:
    images = read(grey(0, 51, 255), [0, 1, 2], ["cat", "dog", "owl"], ["owl", "cat", "fox", "dog"])
    assert images.labels.tolist() == [1, 3, 0]
    assert images.pixels[:, 0, 0, 0].tolist() == pytest.approx([0.0, 0.2, 1.0])


def test_class_numbers_are_the_model_s_own(read: Any) -> None:
    assert read(grey(0, 1), [0, 1], [2, 5], [str(i) for i in range(6)]).labels.tolist() == [2, 5]


@pytest.mark.parametrize("levels", [(0.0, 0.5, 1.0), (0.0, 127.5, 255.0)])
def test_floats_are_read_on_either_common_scale(read: Any, levels: tuple[float, ...]) -> None:
    images = read(grey(*levels, dtype=np.float32), [0, 1, 1], ["a", "b"], ["a", "b"])
    assert images.pixels[:, 0, 0, 0].tolist() == [0.0, 0.5, 1.0]


def test_normalised_pixels_are_refused_with_what_to_do(read: Any) -> None:
    with pytest.raises(JobProblem, match=r"-2 to 2.*normalisation as mean and std") as refused:
        read(grey(-2.0, 2.0, dtype=np.float32), [0, 1], ["a", "b"], ["a", "b"])
    assert refused.value.body["type"] == "/problems/images-out-of-range"


def test_images_are_resized(read: Any) -> None:
    pixels = read(grey(51, 255), [0, 1], ["a", "b"], ["a", "b"], size=[8, 6]).pixels
    assert pixels.shape == (2, 3, 8, 6)
    assert torch.allclose(pixels[0], torch.tensor(0.2))


def test_a_damaged_file_is_noticed_before_it_is_used(read: Any, tmp_path: Path) -> None:
    read(grey(1, 2), [0, 1], ["a", "b"], ["a", "b"])
    ref = InputRef(
        name="my clean set",
        bytes=1,
        sha256="",
        canonical_path="files/clean.npz",
        canonical_sha256="0" * 64,
        facts={"classes": ["a", "b"]},
    )
    with pytest.raises(JobProblem, match="my clean set"):
        read_images(LocalStorage(tmp_path), ref, {"classes": ["a", "b"], "preprocessing": {"size": None}})


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_a_picture_is_what_the_model_was_shown(channels: str) -> None:
    stated = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "channels": channels}
    preprocessing = stated_preprocessing({"preprocessing": stated})
    shown = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(as_picture(preprocessing.apply(shown)[0], preprocessing), shown[0], atol=1e-6)
