"""cwsam-geo: land-cover maps of whole SAR scenes with CWSAM.

The functions behind the commands are importable from here. They are loaded at first use, so
that ``import cwsam_geo`` and ``cwsam-geo --help`` answer at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cwsam_geo._version import __version__

_WHERE = {
    "EvaluateOptions": "cwsam_geo.evaluation.options",
    "EvaluateOutputs": "cwsam_geo.evaluation.options",
    "FinetuneOptions": "cwsam_geo.finetuning.options",
    "PredictOptions": "cwsam_geo.prediction.options",
    "PredictOutputs": "cwsam_geo.prediction.options",
    "VectorizeOptions": "cwsam_geo.vectorization.options",
    "evaluate": "cwsam_geo.evaluation.evaluate",
    "finetune": "cwsam_geo.finetuning.finetune",
    "load_model": "cwsam_geo.model.runtime.predictor",
    "predict_scene": "cwsam_geo.prediction.predict_scene",
    "vectorize": "cwsam_geo.vectorization.vectorize",
}
# No module directly in this folder may have the name of a function here: importing the module
# would replace the function.

__all__ = [
    "EvaluateOptions",
    "EvaluateOutputs",
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
    from cwsam_geo.evaluation.evaluate import evaluate
    from cwsam_geo.evaluation.options import EvaluateOptions, EvaluateOutputs
    from cwsam_geo.finetuning.finetune import finetune
    from cwsam_geo.finetuning.options import FinetuneOptions
    from cwsam_geo.model.runtime.predictor import load_model
    from cwsam_geo.prediction.options import PredictOptions, PredictOutputs
    from cwsam_geo.prediction.predict_scene import predict_scene
    from cwsam_geo.vectorization.options import VectorizeOptions
    from cwsam_geo.vectorization.vectorize import vectorize


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
