"""Backdoor attacks with which test suspects are made, each after its paper."""

from collections.abc import Callable

from modeconn_core.attacks.base import Backdoor, Poisoned
from modeconn_core.attacks.blend import Blend
from modeconn_core.attacks.patch import BadNets
from modeconn_core.attacks.sinusoid import SIG
from modeconn_core.attacks.warp import WaNet

ATTACKS: dict[str, Callable[[], Backdoor]] = {
    "badnets": BadNets,
    "badnets-all-to-all": lambda: BadNets(target_class=None),
    "blend": Blend,
    "sig": SIG,
    "wanet": WaNet,
}

__all__ = ["ATTACKS", "SIG", "Backdoor", "BadNets", "Blend", "Poisoned", "WaNet"]
