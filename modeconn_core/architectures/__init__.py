"""Names to modules, and tensors to names: `build`, `names`, `recognise`, `check`, `nearest`, `strip_prefix`.

A family is one entry in a `FAMILIES` table: a name, a builder, its options, and a cheap guess at them from tensor
shapes. An operator adds modules without touching this folder, by an entry point in the group `modeconn.architectures`:
name -> callable(num_classes: int, **options) -> nn.Module.
"""

from modeconn_core.architectures.errors import ArchitectureError, OptionsNotAccepted, UnknownArchitecture
from modeconn_core.architectures.recognition import Candidate, Mismatch, check, recognise, strip_prefix
from modeconn_core.architectures.registry import build, names, nearest

__all__ = [
    "ArchitectureError",
    "Candidate",
    "Mismatch",
    "OptionsNotAccepted",
    "UnknownArchitecture",
    "build",
    "check",
    "names",
    "nearest",
    "recognise",
    "strip_prefix",
]
