"""cwsam-geo: land-cover maps of whole SAR scenes with CWSAM.

The functions behind the commands, their options and their errors are importable from here. They
are loaded at first use, so that ``import cwsam_geo`` and ``cwsam-geo --help`` answer at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cwsam_geo._version import __version__

_WHERE = {
    "AreaTable": "cwsam_geo.areas.class_areas",
    "BatchReports": "cwsam_geo.batch.run",
    "BlockOptions": "cwsam_geo.finetuning.region.config",
    "ClassMapping": "cwsam_geo.evaluation.options",
    "CwsamGeoError": "cwsam_geo.errors",
    "EvaluateOptions": "cwsam_geo.evaluation.options",
    "EvaluateOutputs": "cwsam_geo.evaluation.options",
    "FetchOptions": "cwsam_geo.fetch.options",
    "FinetuneOptions": "cwsam_geo.finetuning.options",
    "InfoOptions": "cwsam_geo.info.options",
    "InputOptions": "cwsam_geo.finetuning.region.config",
    "LabelledScene": "cwsam_geo.finetuning.region.config",
    "Legend": "cwsam_geo.core.legend",
    "LegendEntry": "cwsam_geo.core.legend",
    "LegendError": "cwsam_geo.errors",
    "Machine": "cwsam_geo.finetuning.region.config",
    "ModelError": "cwsam_geo.errors",
    "MosaicOptions": "cwsam_geo.mosaicking.options",
    "OutputError": "cwsam_geo.errors",
    "PredictOptions": "cwsam_geo.prediction.options",
    "PreviewOptions": "cwsam_geo.pictures.options",
    "ReferenceOptions": "cwsam_geo.pictures.options",
    "SceneOptions": "cwsam_geo.pictures.options",
    "PredictOutputs": "cwsam_geo.prediction.options",
    "PredictRun": "cwsam_geo.prediction.options",
    "Recipe": "cwsam_geo.finetuning.region.config",
    "RegionConfig": "cwsam_geo.finetuning.region.config",
    "ReportOptions": "cwsam_geo.map_report.options",
    "ReportScene": "cwsam_geo.map_report.options",
    "SceneError": "cwsam_geo.errors",
    "TileOptions": "cwsam_geo.finetuning.region.config",
    "UsageError": "cwsam_geo.errors",
    "VectorLayer": "cwsam_geo.io.vector_file",
    "VectorizeOptions": "cwsam_geo.vectorization.options",
    "class_areas": "cwsam_geo.areas.class_areas",
    "describe": "cwsam_geo.info.describe",
    "evaluate": "cwsam_geo.evaluation.evaluate",
    "fetch_scenes": "cwsam_geo.fetch.fetch_scenes",
    "finetune": "cwsam_geo.finetuning.finetune",
    "load_model": "cwsam_geo.model.runtime.predictor",
    "load_region": "cwsam_geo.finetuning.region.region_file",
    "mosaic": "cwsam_geo.mosaicking.mosaic",
    "predict_scene": "cwsam_geo.prediction.predict_scene",
    "preview": "cwsam_geo.pictures.preview",
    "predict_scenes": "cwsam_geo.batch.predict_scenes",
    "read_legend": "cwsam_geo.io.legend_file",
    "report_map": "cwsam_geo.map_report.report_map",
    "vectorize": "cwsam_geo.vectorization.vectorize",
}
# No module directly in this folder may have the name of a function here: importing the module
# would replace the function.

__all__ = [
    "AreaTable",
    "BatchReports",
    "BlockOptions",
    "ClassMapping",
    "CwsamGeoError",
    "EvaluateOptions",
    "EvaluateOutputs",
    "FetchOptions",
    "FinetuneOptions",
    "InfoOptions",
    "InputOptions",
    "LabelledScene",
    "Legend",
    "LegendEntry",
    "LegendError",
    "Machine",
    "ModelError",
    "MosaicOptions",
    "OutputError",
    "PredictOptions",
    "PredictOutputs",
    "PredictRun",
    "PreviewOptions",
    "Recipe",
    "ReferenceOptions",
    "RegionConfig",
    "ReportOptions",
    "ReportScene",
    "SceneError",
    "SceneOptions",
    "TileOptions",
    "UsageError",
    "VectorLayer",
    "VectorizeOptions",
    "__version__",
    "class_areas",
    "describe",
    "evaluate",
    "fetch_scenes",
    "finetune",
    "load_model",
    "load_region",
    "mosaic",
    "predict_scene",
    "predict_scenes",
    "preview",
    "read_legend",
    "report_map",
    "vectorize",
]

if TYPE_CHECKING:
    from cwsam_geo.areas.class_areas import AreaTable, class_areas
    from cwsam_geo.batch.predict_scenes import predict_scenes
    from cwsam_geo.batch.run import BatchReports
    from cwsam_geo.core.legend import Legend, LegendEntry
    from cwsam_geo.errors import (
        CwsamGeoError,
        LegendError,
        ModelError,
        OutputError,
        SceneError,
        UsageError,
    )
    from cwsam_geo.evaluation.evaluate import evaluate
    from cwsam_geo.evaluation.options import ClassMapping, EvaluateOptions, EvaluateOutputs
    from cwsam_geo.fetch.fetch_scenes import fetch_scenes
    from cwsam_geo.fetch.options import FetchOptions
    from cwsam_geo.finetuning.finetune import finetune
    from cwsam_geo.finetuning.options import FinetuneOptions
    from cwsam_geo.finetuning.region.config import (
        BlockOptions,
        InputOptions,
        LabelledScene,
        Machine,
        Recipe,
        RegionConfig,
        TileOptions,
    )
    from cwsam_geo.finetuning.region.region_file import load_region
    from cwsam_geo.info.describe import describe
    from cwsam_geo.info.options import InfoOptions
    from cwsam_geo.io.legend_file import read_legend
    from cwsam_geo.io.vector_file import VectorLayer
    from cwsam_geo.map_report.options import ReportOptions, ReportScene
    from cwsam_geo.map_report.report_map import report_map
    from cwsam_geo.model.runtime.predictor import load_model
    from cwsam_geo.mosaicking.mosaic import mosaic
    from cwsam_geo.mosaicking.options import MosaicOptions
    from cwsam_geo.pictures.options import PreviewOptions, ReferenceOptions, SceneOptions
    from cwsam_geo.pictures.preview import preview
    from cwsam_geo.prediction.options import PredictOptions, PredictOutputs, PredictRun
    from cwsam_geo.prediction.predict_scene import predict_scene
    from cwsam_geo.vectorization.options import VectorizeOptions
    from cwsam_geo.vectorization.vectorize import vectorize


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
