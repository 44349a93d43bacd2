"""Sentinel-1 Level-1 products (GRD and SLC) as delivered: ``.SAFE`` folders and archives."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from cwsam_geo.scene.products.product import BandFacts, Product
from cwsam_geo.scene.sentinel1.product import missing_table, table_files
from cwsam_geo.scene.sentinel1.tables import read_sigma_nought


def recognise(dataset: Any, path: str) -> Product | None:
    """Recognises a measurement file by its place in a product."""
    if any(dtype.startswith("float") for dtype in dataset.dtypes):
        return None  # processed already
    title = "Sentinel-1 product"
    files = table_files(path)
    if files is None:
        missing = missing_table(path)
        if missing is None:
            return None
        lacks = f"its product lacks annotation/calibration/{Path(missing).name}"
        return Product(title, lacks=lacks, remedy="get the whole product")
    facts = BandFacts(calibration=partial(read_sigma_nought, files))
    paths = (files.calibration, files.noise, files.annotation)
    return Product(title, {1: facts}, files=tuple(p for p in paths if p))
