"""Another t of a stored path: the weights there, made into a model and measured, without fitting again."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from modeconn_core.batchnorm import Calibration
from modeconn_core.configuration import Figures, RepairConfig
from modeconn_core.curve import FlatParameters, ModePath
from modeconn_core.device import choose_device, parameter_dtype, working_copy
from modeconn_core.repair import like
from modeconn_core.splits import divide_triggered, split_clean
from modeconn_core.sweep import Probe, TriggeredSet


def materialise(
    model: nn.Module,
    path_file: str | Path,
    clean_images: Tensor,
    clean_labels: Tensor,
    *,
    t: float,
    triggered: tuple[Tensor, Tensor] | None = None,
    config: RepairConfig | None = None,
) -> tuple[nn.Module, Figures]:
    """The model at ``t`` of the path that a repair of ``model`` stored, and its figures on that repair's report images.

    The other arguments are those of :func:`modeconn_core.repair`; with the same images and ``config`` the split is the
    same.
    Raises ValueError when the path does not fit the model or t lies outside [0, 1].
    """
    config = config or RepairConfig()
    device = choose_device(config.device)
    module = working_copy(model, device)
    path = ModePath.load(path_file, FlatParameters(working_copy(model, device)))
    module.load_state_dict({**module.state_dict(), **path.state_at(t)})
    split = split_clean(clean_labels, held_out=config.held_out, seed=config.seed)
    dtype = parameter_dtype(module)
    images = clean_images.to(device, dtype, memory_format=torch.channels_last)
    calibration = Calibration(working_copy(model, device), images[split.fit], mirror=config.mirror, seed=config.seed)
    calibration.apply(module, path.coefficients(t)[0], exact=True)
    attack = None
    if triggered is not None:
        _, reported = divide_triggered(
            len(triggered[0]), choosing=config.select_with_triggered, injected=config.tampering == "error_injection"
        )
        attack = TriggeredSet(
            images=triggered[0][reported].to(device, dtype), targets=triggered[1][reported].to(device)
        )
    probe = Probe(
        images=images[split.report], labels=clean_labels.to(device)[split.report], triggered=attack, proxies=()
    )
    return like(model, module), Figures.of(probe.measure(module, t, exact=True).point)
