"""cwsam-geo: land-cover maps of whole SAR scenes with CWSAM.

The functions behind the commands are importable from here; they are loaded when first used, so
that ``import cwsam_geo`` and ``cwsam-geo --help`` answer at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "EvaluateOptions": "cwsam_geo.evaluation",
    "FinetuneOptions": "cwsam_geo.train.job",
    "PredictOptions": "cwsam_geo.options",
    "PredictOutputs": "cwsam_geo.options",
    "VectorizeOptions": "cwsam_geo.vectorization",
    "evaluate": "cwsam_geo.assessment",
    "finetune": "cwsam_geo.finetuning",
    "load_model": "cwsam_geo.model.predictor",
    "predict_scene": "cwsam_geo.api",
    "vectorize": "cwsam_geo.vectorization",
}
# No module may have the name of a function here: importing it would put it in the function's place.

__all__ = [
    "EvaluateOptions",
    "FinetuneOptions",
    "PredictOptions",
    "PredictOutputs",
    "VectorizeOptions",
    "__version__",
    "evaluate",
    "finetune",
    "load_model",
    "predict_scene",
    "vectorize",
]

if TYPE_CHECKING:
    from cwsam_geo.api import predict_scene
    from cwsam_geo.assessment import evaluate
    from cwsam_geo.evaluation import EvaluateOptions
    from cwsam_geo.finetuning import finetune
    from cwsam_geo.model.predictor import load_model
    from cwsam_geo.options import PredictOptions, PredictOutputs
    from cwsam_geo.train.job import FinetuneOptions
    from cwsam_geo.vectorization import VectorizeOptions, vectorize


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
