"""cwsam-geo: land-cover maps of whole SAR scenes with CWSAM.

The functions behind the commands are importable from here; they are loaded when first used, so
that ``import cwsam_geo`` and ``cwsam-geo --help`` answer at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "load_model": "cwsam_geo.model.predictor",
    "PredictOptions": "cwsam_geo.options",
    "PredictOutputs": "cwsam_geo.options",
    "VectorizeOptions": "cwsam_geo.vectorize",
    "EvaluateOptions": "cwsam_geo.evaluation",
    "evaluate": "cwsam_geo.assessment",
    "predict_scene": "cwsam_geo.api",
    "vectorize": "cwsam_geo.vectorize",
}

__all__ = ["PredictOptions", "PredictOutputs", "__version__", "load_model", "predict_scene"]

if TYPE_CHECKING:
    from cwsam_geo.api import predict_scene
    from cwsam_geo.model.predictor import load_model
    from cwsam_geo.options import PredictOptions, PredictOutputs


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
