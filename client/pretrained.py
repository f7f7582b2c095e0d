"""A folder as timm and Hugging Face write it: `config.json` beside the weights.

folder = Pretrained.read(Path("my-model"))
repair = client.repair(folder.weights, Path("clean.zip"), folder.settings())
repair.wait()
folder.write(repair, Path("my-model-repaired"))
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from client.models import Architecture, Preprocessing, RepairSettings
from client.repair import Repair

CONFIG: Final = "config.json"
WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")
_PREPROCESSOR: Final = "preprocessor_config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """What the folder says; None where it says nothing."""

    folder: Path
    weights: Path
    architecture: Architecture | None
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises ValueError, with a way out, for a folder that is none of these."""
        weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
        if weights is None or not (folder / CONFIG).is_file():
            raise ValueError(
                f"{folder} is no model: there must be {CONFIG} and {WEIGHTS[0]}, as timm and Hugging Face write them. "
                "Name the weights' file itself if it is something else."
            )
        config = _object(folder / CONFIG)
        seen = config.get("pretrained_cfg", config)
        if (folder / _PREPROCESSOR).is_file():
            seen = _object(folder / _PREPROCESSOR)
        return cls(
            folder=folder,
            weights=weights,
            architecture=_architecture(config),
            preprocessing=_preprocessing(seen),
            classes=_classes(config),
        )

    def settings(self) -> RepairSettings:
        """Settings that say what the folder says."""
        return RepairSettings(architecture=self.architecture, preprocessing=self.preprocessing, classes=self.classes)

    def write(self, repair: Repair, target: Path) -> Path:
        """The repaired weights in a folder of the same layout. Raises FileExistsError where there is one already."""
        with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".modeconn-") as scratch:
            folder = Path(scratch) / "model"
            folder.mkdir()
            repair.download(folder / WEIGHTS[0])
            for name in (CONFIG, _PREPROCESSOR):
                if (self.folder / name).is_file():
                    shutil.copyfile(self.folder / name, folder / name)
            if target.exists():
                raise FileExistsError(f"{target} is there already.")
            folder.rename(target)
        return target


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not JSON with an object in it.")
    return found


def _architecture(config: Mapping[str, Any]) -> Architecture | None:
    """timm names its architecture; a name of transformers' own classes says nothing here, so the tensors decide."""
    name = config.get("architecture")
    if not isinstance(name, str):
        return None
    options = {key: value for key, value in (config.get("model_args") or {}).items() if key != "num_classes"}
    return Architecture(name=f"timm/{name}", options=options)


def _preprocessing(seen: Mapping[str, Any]) -> Preprocessing:
    mean, std = (seen.get(name) or seen.get(f"image_{name}") for name in ("mean", "std"))
    return Preprocessing(
        mean=None if mean is None else tuple(mean), std=None if std is None else tuple(std), size=_size(seen)
    )


def _size(seen: Mapping[str, Any]) -> tuple[int, int] | None:
    """(H, W), of timm's `input_size` [C, H, W] or transformers' `size`."""
    if isinstance(shape := seen.get("input_size"), list) and len(shape) == 3:
        return shape[1], shape[2]
    match seen.get("size"):
        case {"height": int(height), "width": int(width)}:
            return height, width
        case {"shortest_edge": int(side)} | int(side):
            return side, side
    return None


def _classes(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names in the model's order; numbered stand-ins (LABEL_0) are none."""
    names = config.get("label_names") or (config.get("pretrained_cfg") or {}).get("label_names")
    if not names and isinstance(by_id := config.get("id2label"), dict):
        names = [by_id[key] for key in sorted(by_id, key=int)]
    if not names or all(str(name) == f"LABEL_{at}" for at, name in enumerate(names)):
        return None
    return tuple(map(str, names))
