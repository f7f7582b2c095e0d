"""Attacks that make test suspects, each after its paper: backdoors, with the paper's parameters, and edited weights."""

from collections.abc import Callable

from modeconn_core.attacks.base import Backdoor, DataPoisoning, JointlyTrained, Poisoned
from modeconn_core.attacks.bit_flips import Flip, flip_bits
from modeconn_core.attacks.blend import Blend
from modeconn_core.attacks.error_injection import InjectedErrors, InjectionSettings, inject_errors
from modeconn_core.attacks.input_aware import InputAware
from modeconn_core.attacks.label_consistent import LabelConsistent
from modeconn_core.attacks.neurons import Invisible, TrojanPatch
from modeconn_core.attacks.patch import BadNets
from modeconn_core.attacks.sinusoid import SIG
from modeconn_core.attacks.warp import WaNet

ATTACKS: dict[str, Callable[..., Backdoor]] = {
    "badnets": BadNets,
    "badnets-all-to-all": lambda **options: BadNets(target_class=None, **options),
    "blend": Blend,
    "sig": SIG,
    "wanet": WaNet,
    "input-aware": InputAware,
    "input-aware-all-to-all": lambda **options: InputAware(target_class=None, **options),
    "label-consistent": LabelConsistent,
    "trojan": TrojanPatch,
    "invisible-l2": lambda **options: Invisible(norm="l2", **options),
    "invisible-l0": lambda **options: Invisible(norm="l0", **options),
}

__all__ = [
    "ATTACKS",
    "SIG",
    "Backdoor",
    "BadNets",
    "Blend",
    "DataPoisoning",
    "Flip",
    "InjectedErrors",
    "InjectionSettings",
    "InputAware",
    "Invisible",
    "JointlyTrained",
    "LabelConsistent",
    "Poisoned",
    "TrojanPatch",
    "WaNet",
    "flip_bits",
    "inject_errors",
]
