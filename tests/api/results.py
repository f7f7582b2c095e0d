"""What a worker writes of a finished job, for tests that have none: results and points."""

from typing import Any

_FIGURES = {"clean_accuracy": 0.8, "clean_accuracy_interval": [0.75, 0.85], "attack_success_rate": 0.02}
REPAIR_RESULT = {
    "t": 0.25,
    "reason": "Past the knee.",
    "criteria_met": True,
    "before": _FIGURES | {"attack_success_rate": 1.0},
    "after": _FIGURES,
    "targets": [],
    "warnings": ["the clean set is small"],
    "seconds": {"fitting_path": 1.5},
}
_LOW, _HIGH = (
    {"height": 0.0, "interval": [0.0, 0.1], "t": 0.0},
    {"height": 1.2, "interval": [0.9, 1.5], "t": 0.4},
)
_CORRELATION = {"pearson": 0.9, "pearson_interval": [0.8, 0.95], "spearman": 0.7, "spearman_interval": [0.5, 0.8]}
ANALYSIS_RESULT = {
    "paths": [
        {"path": "standard", "clean_barrier": _LOW, "robust_barrier": _HIGH, "correlation": _CORRELATION},
        {"path": "robust", "clean_barrier": _LOW, "robust_barrier": _LOW, "correlation": None},
    ],
    "alignment": "Channels were matched.",
    "fit_images": 60,
    "report_images": 40,
    "warnings": ["few images"],
    "seconds": {"fitting_path": 1.5},
}

DIAGNOSIS_RESULT = {
    "images": 40,
    "accuracy": 0.2,
    "accuracy_interval": [0.1, 0.35],
    "confidence": 0.9,
    "chance": 1 / 3,
    "least_expected": 0.667,
    "suspicious": True,
    "outputs_are_probabilities": False,
    "suggestions": [
        {
            "kind": "channel_order",
            "description": 'Set channels to "BGR".',
            "accuracy": 0.9,
            "value": {"mean": [0, 0, 0], "std": [1, 1, 1], "channels": "BGR", "order": None, "classes": None},
        }
    ],
    "warnings": ["The suspect gets 20.0 % of the clean images right."],
}


def point(t: float, path: str = "main") -> dict[str, Any]:
    """A curve point as the worker records it."""
    return {
        "path": path,
        "t": t,
        "clean_accuracy": 0.8,
        "clean_accuracy_low": 0.7,
        "clean_accuracy_high": 0.9,
        "attack_success_rate": None,
        "asr_low": None,
        "asr_high": None,
        "proxy_success_rate": 0.1,
        "clean_loss": 0.6,
        "set": "coarse",
    }


def analysis_point(path: str, t: float) -> dict[str, Any]:
    """A point of an analysis as the worker records it."""
    return {
        "path": path,
        "t": t,
        "clean_loss": 0.4,
        "clean_error": 0.1,
        "clean_error_low": 0.05,
        "clean_error_high": 0.15,
        "robust_loss": 2.0,
        "robust_loss_low": 1.8,
        "robust_loss_high": 2.2,
        "robust_error": 0.6,
        "robust_error_low": 0.5,
        "robust_error_high": 0.7,
        "eigenvalue": 3.0,
        "eigenvalue_low": 2.5,
        "eigenvalue_high": 3.5,
        "eigenvalue_converged": 0.98,
    }
