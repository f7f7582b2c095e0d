"""The method: mode-connectivity repair of tampered image classifiers. Tensors and modules in, results out."""

from modeconn_core.analysis import analyse
from modeconn_core.analysis_result import (
    AnalysisConfig,
    AnalysisPoint,
    AnalysisResult,
    Barrier,
    Correlation,
    PathFigures,
    PathKind,
)
from modeconn_core.checkpoints import Checkpoints
from modeconn_core.configuration import Figures, Progress, RepairConfig, RepairResult, Tampering, TriggerFinding
from modeconn_core.curve import ModePath
from modeconn_core.errors import RepairStopped
from modeconn_core.fooled import FooledImages
from modeconn_core.hessian import EigenSettings
from modeconn_core.materialise import materialise
from modeconn_core.plane import LossPlane
from modeconn_core.repair import repair
from modeconn_core.robustness import ImageBox, PgdSettings
from modeconn_core.sweep import CurvePoint

__all__ = [
    "AnalysisConfig",
    "AnalysisPoint",
    "AnalysisResult",
    "Barrier",
    "Checkpoints",
    "Correlation",
    "CurvePoint",
    "EigenSettings",
    "Figures",
    "FooledImages",
    "ImageBox",
    "LossPlane",
    "ModePath",
    "PathFigures",
    "PathKind",
    "PgdSettings",
    "Progress",
    "RepairConfig",
    "RepairResult",
    "RepairStopped",
    "Tampering",
    "TriggerFinding",
    "analyse",
    "materialise",
    "repair",
]
