"""Images of an upload as a model would see them."""

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.api.conftest import CLASSES, Sample, Tenant, problem, zip_of
from tests.intake.builders import arrays, npz

PER_CHANNEL = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


@pytest.fixture
def look(tenant: Tenant, stock: dict[str, str]) -> Callable[..., dict[str, Any]]:
    def ask(file_id: str = stock["clean"], **query: Any) -> dict[str, Any]:
        answer: dict[str, Any] = tenant.http.get(f"/files/{file_id}/samples", params=query).raise_for_status().json()
        return answer

    return ask


def pixels(item: dict[str, str]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(item["png"])))).astype(int)


def test_every_class_shows_an_image(look: Callable[..., dict[str, Any]]) -> None:
    assert [item["class_name"] for item in look()["items"]] == CLASSES


def test_the_right_normalisation_is_near_zero_and_one_and_none_is_pale(look: Callable[..., dict[str, Any]]) -> None:
    right, none = look(**PER_CHANNEL), look()
    assert np.abs(right["means"]).max() < 0.3
    assert np.abs(np.array(right["deviations"]) - 1.15).max() < 0.2  # noise of all shades: 1 / sqrt(12) / 0.25
    assert np.array(none["means"]) == pytest.approx(0.5, abs=0.1)
    assert pixels(none["items"][0]).min() >= 127


def test_pixels_are_where_they_belong(look: Callable[..., dict[str, Any]]) -> None:
    rgb, bgr = look(**PER_CHANNEL), look(**PER_CHANNEL, channels="BGR")
    assert (pixels(rgb["items"][1])[..., ::-1] == pixels(bgr["items"][1])).all()


def test_images_are_resized_as_the_model_wants_them(look: Callable[..., dict[str, Any]]) -> None:
    assert pixels(look(size=[16, 24])["items"][0]).shape == (16, 24, 3)


def test_of_many_classes_twelve_are_shown(tenant: Tenant, look: Callable[..., dict[str, Any]]) -> None:
    images = np.repeat(arrays(100)["images"], 2, axis=0)
    images[:, 0, 0, 0] = np.arange(200)
    upload = npz(images=images, labels=np.repeat(np.arange(40), 5))
    file_id = tenant.http.post("/files?kind=clean", content=upload).raise_for_status().json()["id"]
    shown = [int(item["class_name"]) for item in look(file_id)["items"]]
    assert (len(shown), shown[0], shown[-1]) == (12, 0, 39)


@pytest.mark.parametrize(
    ("role", "query", "slug", "status"),
    [
        ("suspect", {}, "wrong-file-kind", 422),
        ("clean", {"mean": [0.5]}, "preprocessing-does-not-fit", 422),
        ("clean", {"std": [0, 0, 0]}, "preprocessing-does-not-fit", 422),
    ],
)
def test_what_cannot_be_shown_is_refused(
    tenant: Tenant, stock: dict[str, str], role: str, query: dict[str, Any], slug: str, status: int
) -> None:
    problem(tenant.http.get(f"/files/{stock[role]}/samples", params=query), status, slug)


def test_a_neighbours_images_are_not_there(neighbour: Tenant, stock: dict[str, str]) -> None:
    problem(neighbour.http.get(f"/files/{stock['clean']}/samples"), 404, "file-not-found")


def test_damaged_images_are_not_shown(
    tenant: Tenant, sample: Callable[[str, str, bytes], Sample], look: Callable[..., dict[str, Any]]
) -> None:
    row = tenant.add_file(sample("clean", "clean", zip_of(CLASSES)))
    path = tenant.storage.path(row.canonical_path or "")
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    problem(tenant.http.get(f"/files/{row.id}/samples"), 500, "stored-file-damaged")
