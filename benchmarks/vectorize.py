"""Time and memory of ``cwsam-geo vectorize`` against rasterio on the whole band.

    python benchmarks/vectorize.py --sizes 1,25,106,425 --format gpkg

makes class rasters with smooth regions and slanted nodata borders (about 300,000 polygons at
25,000 x 17,000), runs each side in a process of its own, and prints a Markdown table of wall
time, peak memory and polygon count. ``rasterio`` reads the band whole, takes
``rasterio.features.shapes`` and writes the same format with geopandas (pyogrio, Arrow);
``gdal_polygonize`` is GDAL's own tool, where it is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

CLASSES = ("water", "trees", "crops", "built", "bare", "grass")
COLORS = ("#1f5fd0", "#1a7a2e", "#e6c84b", "#d0312d", "#9b8567", "#8fcf6b")
COARSE, FINE, SHARE = 58, 15, 0.3
SIDES = ("vectorize", "rasterio", "gdal_polygonize", "vectorize --simplify 30")
TOOL = "gdal_polygonize.py"
BLOCK = 512


def make_raster(path: Path, height: int, width: int, seed: int = 0) -> None:
    """Writes the class of greatest value noise at each pixel, row band by row band."""
    rng = np.random.default_rng(seed)
    noise = [
        [rng.standard_normal((height // s + 3, width // s + 3), np.float32) for s in (COARSE, FINE)]
        for _ in CLASSES
    ]
    tags = [
        {"code": i, "name": n, "color": c}
        for i, (n, c) in enumerate(zip(CLASSES, COLORS, strict=True))
    ]
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": 1,
        "dtype": "uint8",
        "nodata": 255,
        "crs": "EPSG:32633",
        "transform": from_origin(300000, 5500000, 10, 10),
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "deflate",
    }
    with rasterio.open(path, "w", **profile) as sink:
        sink.update_tags(LEGEND=json.dumps(tags))
        for top in range(0, height, BLOCK):
            rows = min(BLOCK, height - top)
            best = np.full((rows, width), -np.inf, np.float32)
            classes = np.zeros((rows, width), np.uint8)
            for code, (coarse, fine) in enumerate(noise):
                value = interpolated(coarse, COARSE, top, rows, width)
                value += SHARE * interpolated(fine, FINE, top, rows, width)
                classes[value > best] = code
                np.maximum(best, value, out=best)
            classes[outside(top, rows, height, width)] = 255
            sink.write(classes, 1, window=((top, top + rows), (0, width)))


def interpolated(noise: np.ndarray, step: int, top: int, rows: int, width: int) -> np.ndarray:
    i, down = knots(np.arange(top, top + rows), step)
    j, along = knots(np.arange(width), step)
    lines = noise[i] * (1 - down[:, None]) + noise[i + 1] * down[:, None]
    return lines[:, j] * (1 - along) + lines[:, j + 1] * along


def knots(places: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    share = (places % step / step).astype(np.float32)
    return places // step, share * share * (3 - 2 * share)


def outside(top: int, rows: int, height: int, width: int) -> np.ndarray:
    """Pixels outside a slanted scene, as orbits leave them on a north-up map."""
    y = (np.arange(top, top + rows) / height)[:, None]
    x = (np.arange(width) / width)[None, :]
    return (
        (x + 0.06 * y < 0.06) | (x + 0.06 * y > 1) | (y - 0.04 * x > 0.96) | (y + 0.04 * x < 0.04)
    )


def run_vectorize(raster: str, output: str, simplify: float) -> int:
    from cwsam_geo.vectorization.options import VectorizeOptions
    from cwsam_geo.vectorization.vectorize import vectorize

    return vectorize(raster, output, VectorizeOptions(simplify=simplify)).count


def run_rasterio(raster: str, output: str) -> int:
    import geopandas
    import rasterio.features
    from shapely.geometry import shape

    with rasterio.open(raster) as source:
        band = source.read(1)
        found = [
            (shape(geometry), int(value))
            for geometry, value in rasterio.features.shapes(
                band, mask=band != source.nodata, transform=source.transform
            )
        ]
        crs = source.crs
    shapes, values = zip(*found, strict=True)
    frame = geopandas.GeoDataFrame({"class_id": values}, geometry=list(shapes), crs=crs)
    if output.endswith(".parquet"):
        frame.to_parquet(output)
    else:
        frame.to_file(output, engine="pyogrio", use_arrow=True)
    return len(frame)


def run_side(side: str, raster: str, output: str) -> None:
    if side == "rasterio":
        count = run_rasterio(raster, output)
    else:
        count = run_vectorize(raster, output, 30.0 if "simplify" in side else 0.0)
    print(json.dumps({"polygons": count}))


def measured(side: str, raster: Path, output: Path) -> dict[str, float]:
    """Seconds, peak memory in MB and polygons of one side, in a process of its own."""
    output.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--side", side, str(raster), str(output)]
    if side == "gdal_polygonize":
        command = [TOOL, "-q", str(raster), str(output)]
    begun = time.monotonic()
    with tempfile.TemporaryFile() as answer:
        child = subprocess.Popen(command, stdout=answer)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - begun
        answer.seek(0)
        text = answer.read()
    if child.returncode:
        raise SystemExit(f"{side} failed on {raster}")
    return {
        "seconds": seconds,
        "cpu": usage.ru_utime + usage.ru_stime,
        "megabytes": usage.ru_maxrss / 1024,
        "polygons": json.loads(text)["polygons"] if text else counted(output),
        "file": output.stat().st_size / 1e6,
    }


def counted(output: Path) -> int:
    import pyogrio

    return pyogrio.read_info(output, layer=0)["features"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1,6,25", help="megapixels; 425 is 25,000 x 17,000")
    parser.add_argument("--format", default="gpkg", choices=["gpkg", "fgb", "parquet", "geojson"])
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--folder", type=Path, help="keeps the rasters there for another run")
    parser.add_argument("-o", "--output", type=Path, help="JSON to write")
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        run_side(*given.side)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        print(f"cores: {os.cpu_count()}, load before: {os.getloadavg()[0]:.1f}, {given.format}\n")
        no_driver = given.format == "parquet"
        print("| Mpx | side | wall s | CPU s | peak MB | polygons | file MB |")
        print("|---:|---|---:|---:|---:|---:|---:|")
        rows = []
        for size in given.sizes.split(","):
            scale = (float(size) / 425) ** 0.5
            height, width = round(17000 * scale), round(25000 * scale)
            raster = folder / f"classes_{size}.tif"
            if not raster.exists():
                make_raster(raster, height, width)
            for side in given.sides.split(","):
                if side == "gdal_polygonize" and (not shutil.which(TOOL) or no_driver):
                    continue
                m = measured(side, raster, folder / f"polygons.{given.format}")
                print(
                    f"| {height * width / 1e6:.0f} | {side} | {m['seconds']:.1f} | "
                    f"{m['cpu']:.1f} | {m['megabytes']:.0f} | {m['polygons']} | {m['file']:.0f} |",
                    flush=True,
                )
                rows.append({"megapixels": height * width / 1e6, "side": side} | m)
        if given.output:
            given.output.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
