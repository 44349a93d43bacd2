"""Reads and checks the tables of a Sentinel-1 product: calibration, noise and geolocation grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint

from cwsam_geo.core.counting import how_many
from cwsam_geo.core.grid import Window
from cwsam_geo.errors import SceneError
from cwsam_geo.scene.sentinel1.calibration import AzimuthBlock, Noise, SigmaNought, Vectors
from cwsam_geo.scene.sentinel1.product import TableFiles
from cwsam_geo.scene.sentinel1.xml import read_xml

_OLD_LIST = "noiseVectorList"
"""Element with the noise vectors in products of processors before IPF 2.9."""

_MOST_VECTORS = 1000
_MOST_POINTS = 20_000
_MOST_TEXT = 1 << 20
"""Vectors, grid points and characters up to which an element is read, far above real products."""

_LEAST_AMPLITUDE = 1e-6
"""Least calibration value. Real ones are in the hundreds; the limit refuses zeros."""

_LEAST_NOISE = 1e-4
"""Least mean noise, as sigma nought (-40 dB); a weaker one is not subtracted.

The noise of Sentinel-1 is -22 to -30 dB. Processors before mid-2015 wrote it in other units.
"""

_MOST_NOISE = 0.3
"""Largest mean noise, as sigma nought (-5 dB); a stronger one is not subtracted.

Some WV products of 2018 have noise that is 30 dB too high, which would make all pixels dark.
"""


@dataclass(frozen=True, eq=False)
class NoiseTable:
    """The noise table of a measurement file.

    Attributes:
        noise: Thermal noise; None if the table is empty, or in other units.
        old: Whether it has the layout of processors before IPF 2.9.
    """

    noise: Noise | None
    old: bool


def read_noise(files: TableFiles, height: int, width: int) -> NoiseTable:
    """Reads the noise table of a measurement file with ``height`` x ``width`` pixels.

    Raises:
        SceneError: A table is damaged or does not fit the raster.
    """
    if files.noise is None:
        return NoiseTable(None, old=False)
    root = read_xml(files.noise)
    noise = _noise(root, (height, width))
    level = _noise_level(noise, _amplitude(files, (height, width)))
    known = _LEAST_NOISE <= level <= _MOST_NOISE
    return NoiseTable(noise if known else None, root.find(_OLD_LIST) is not None)


def read_sigma_nought(files: TableFiles, height: int, width: int) -> SigmaNought:
    """Reads the calibration of a measurement file with ``height`` x ``width`` pixels.

    Raises:
        SceneError: A table is damaged or does not fit the raster. The message names the file.
    """
    # Calibration
    shape = height, width
    try:
        amplitude = _amplitude(files, shape)
    except SceneError as error:
        advice = "pass --units amplitude to read its digital numbers as they are"
        raise _unusable(files.calibration, "calibration table", error, advice) from None
    # Thermal noise
    if files.noise is None:
        return SigmaNought(amplitude, None, "the product has no noise table")
    try:
        noise = _noise(read_xml(files.noise), shape)
    except SceneError as error:
        advice = "delete this file to go on without removal of thermal noise"
        raise _unusable(files.noise, "noise table", error, advice) from None
    # Noise that cannot be right, or is removed already, is not subtracted.
    level = _noise_level(noise, amplitude)
    why = ""
    if level < _LEAST_NOISE:
        why = "the noise table is empty or in units from before mid-2015"
    elif level > _MOST_NOISE:
        why = "the noise table has more noise than Sentinel-1 can have"
    elif files.annotation is not None and _denoised(files.annotation):
        why = "its processor removed it already"
    return SigmaNought(amplitude, None if why else noise, why)


def _amplitude(files: TableFiles, shape: tuple[int, int]) -> Vectors:
    root = read_xml(files.calibration)
    vectors = _members(root, "calibrationVectorList", "calibrationVector")
    amplitude = _vectors(vectors, "sigmaNought", shape)
    _check_covers(amplitude.lines, shape[0], "lines")
    return amplitude


def _noise_level(noise: Noise, amplitude: Vectors) -> float:
    """Mean noise as sigma nought (power)."""
    return float(noise.vectors.values.mean() / amplitude.values.mean() ** 2)


def _denoised(annotation: str) -> bool:
    """Whether a product's annotation says that its processor removed thermal noise."""
    try:
        flag = read_xml(annotation).findtext(
            "imageAnnotation/processingInformation/thermalNoiseCorrectionPerformed"
        )
    except SceneError:
        # A damaged annotation is no reason to fail: nothing else here needs it, and the usual
        # processors do not remove the noise.
        return False
    return (flag or "").strip().lower() == "true"


def control_points(annotation: str) -> tuple[GroundControlPoint, ...]:
    """Reads the geolocation grid of a product: longitude, latitude, height, as GDAL gives them.

    Args:
        annotation: ``annotation/NAME.xml`` of the product.

    Raises:
        SceneError: The annotation is damaged. The message names the file.
    """
    try:
        grid = read_xml(annotation).find("geolocationGrid")
        if grid is None:
            raise SceneError("has no geolocationGrid")
        points = _members(grid, "geolocationGridPointList", "geolocationGridPoint", _MOST_POINTS)
        tags = ("line", "pixel", "longitude", "latitude", "height")
        rows = [[_number(point, tag) for tag in tags] for point in points]
    except SceneError as error:
        advice = "delete this file to map the scene without control points"
        raise _unusable(annotation, "geolocation grid", error, advice) from None
    return tuple(GroundControlPoint(*values, id=str(i)) for i, values in enumerate(rows, 1))


def _noise(root: Element, shape: tuple[int, int]) -> Noise:
    if root.find("noiseRangeVectorList") is None:
        along_range = _members(root, _OLD_LIST, "noiseVector")
        vectors = _vectors(along_range, "noiseLut", shape)
    else:
        along_range = _members(root, "noiseRangeVectorList", "noiseRangeVector")
        vectors = _vectors(along_range, "noiseRangeLut", shape)
    _check_touches(vectors.lines, shape[0], "lines")
    blocks: list[AzimuthBlock] = []
    if root.find("noiseAzimuthVectorList/noiseAzimuthVector") is not None:
        along_azimuth = _members(root, "noiseAzimuthVectorList", "noiseAzimuthVector")
        blocks = [_block(element, shape) for element in along_azimuth]
    return Noise(vectors, tuple(blocks))


def _members(root: Element, list_tag: str, tag: str, most: int = _MOST_VECTORS) -> list[Element]:
    members = root.find(list_tag)
    if members is None:
        raise SceneError(f"has no {list_tag}")
    elements = members.findall(tag)
    _check_count(members, len(elements), list_tag)
    if len(elements) > most:
        raise SceneError(f"{list_tag} holds {len(elements):,} members, more than {most:,}")
    return elements


def _vectors(elements: Sequence[Element], tag: str, shape: tuple[int, int]) -> Vectors:
    """Vectors along range, interpolated to every column.

    Vectors of calibration must cover every column and consist of positive numbers. Vectors of noise
    are a correction only: their first and last values hold beyond their ends, as those of WV and of
    some IW SLC products must, and values that are NaN are left out.

    Args:
        elements: One element per line of the table.
        tag: Child element that holds the values.
        shape: Height and width of the raster.
    """
    width, columns, noise = shape[1], np.arange(shape[1]), tag != "sigmaNought"
    lines: list[float] = []
    values: list[NDArray[np.float64]] = []
    for element in elements:
        line = _number(element, "line")
        where = f" of line {line:g}"
        pixels, samples = _nodes(element, "pixel", tag, where, noise)
        if not len(samples) or (lines and line == lines[-1]):
            continue
        if noise:
            _check_touches(pixels, width, f"pixels{where}")
        else:
            _check_covers(pixels, width, f"pixels{where}")
        if pixels[-1] > 1.25 * width:  # the table of a larger raster
            raise _misfit(pixels, width, f"pixels{where}")
        _check_values(samples, tag + where, 0.0 if noise else _LEAST_AMPLITUDE)
        lines.append(line)
        values.append(np.interp(columns, pixels, samples).astype(np.float32))
    if not lines:
        raise SceneError(f"{tag} holds no numbers")
    _check_increasing(np.array(lines), "lines")
    return Vectors(np.array(lines), np.array(values, np.float32))


def _nodes(
    element: Element, nodes_tag: str, values_tag: str, where: str, noise: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes of a vector and the values there; of repeated nodes the first one.

    Args:
        element: The vector.
        nodes_tag: Child element that holds the nodes.
        values_tag: Child element that holds the values.
        where: The vector's place, for messages.
        noise: Whether to leave out nodes and values that are NaN.
    """
    nodes, values = _numbers(element, nodes_tag, where), _numbers(element, values_tag, where)
    if len(nodes) != len(values):
        raise SceneError(
            f"{how_many(len(nodes), nodes_tag)}, but {how_many(len(values), 'value')} of "
            f"{values_tag}{where}"
        )
    if noise:
        numbers = ~(np.isnan(nodes) | np.isnan(values))
        nodes, values = nodes[numbers], values[numbers]
    first = np.diff(nodes, prepend=-np.inf) != 0
    _check_increasing(nodes[first], f"{nodes_tag}s{where}")
    return nodes[first], values[first]


def _block(element: Element, shape: tuple[int, int]) -> AzimuthBlock:
    """Reads a block along azimuth; one without limits (SLC) covers the whole raster."""
    height, width = shape
    top = int(_number(element, "firstAzimuthLine", 0))
    left = int(_number(element, "firstRangeSample", 0))
    bottom = int(_number(element, "lastAzimuthLine", height - 1)) + 1
    right = int(_number(element, "lastRangeSample", width - 1)) + 1
    window = Window(top, left, bottom - top, right - left)
    where = f" of the azimuth block at line {top}, sample {left}"
    if window.empty:
        raise SceneError(f"no pixel in it{where}")
    lines, factors = _nodes(element, "line", "noiseAzimuthLut", where, noise=True)
    if not len(factors):
        raise SceneError(f"noiseAzimuthLut{where} holds no numbers")
    _check_values(factors, f"noiseAzimuthLut{where}", 0.0)
    return AzimuthBlock(window.intersect(Window(0, 0, height, width)), lines, factors)


def _numbers(element: Element, tag: str, where: str) -> NDArray[np.float64]:
    """The numbers in a child element; a ``count`` attribute must agree with them."""
    member = element.find(tag)
    text = (member.text if member is not None else None) or ""
    if member is None or len(text) > _MOST_TEXT:
        raise SceneError(f"{'no' if member is None else 'too long a'} {tag}{where}")
    try:
        numbers = np.array(text.split(), np.float64)
    except (ValueError, OverflowError):
        raise SceneError(f"{tag}{where} is not all numbers") from None
    _check_count(member, len(numbers), tag + where)
    return numbers


def _number(element: Element, tag: str, default: float | None = None) -> float:
    text = element.findtext(tag)
    if text is None and default is not None:
        return default
    try:
        number = float(text or "")
    except ValueError:
        raise SceneError(f"a vector's {tag} is {(text or '')[:20]!r}, not a number") from None
    if not abs(number) < 1e9:
        raise SceneError(f"a vector's {tag} is {number:g}")
    return number


def _check_count(element: Element, actual: int, what: str) -> None:
    declared = element.get("count")
    if declared is not None and declared.strip() != str(actual):
        raise SceneError(f"{what} should have {declared[:20]} members, but has {actual}")
    if not actual:
        raise SceneError(f"{what} is empty")


def _check_increasing(nodes: NDArray[np.float64], what: str) -> None:
    if not np.isfinite(nodes).all() or (np.diff(nodes) <= 0).any():
        raise SceneError(f"the {what} do not increase")


def _check_covers(nodes: NDArray[np.float64], size: int, what: str) -> None:
    """Checks that increasing nodes cover the raster, except for one step at either end."""
    step = min(np.diff(nodes).max(initial=0.0), size / 4)
    if nodes[0] > step or nodes[-1] < size - 1 - step:
        raise _misfit(nodes, size, what)


def _check_touches(nodes: NDArray[np.float64], size: int, what: str) -> None:
    """Checks that nodes do not lie wholly outside the raster."""
    if nodes[0] >= size or nodes[-1] < 0:
        raise _misfit(nodes, size, what)


def _misfit(nodes: NDArray[np.float64], size: int, what: str) -> SceneError:
    return SceneError(
        f"the {what} go from {nodes[0]:g} to {nodes[-1]:g}, but the raster has {size}"
    )


def _check_values(values: NDArray[np.float64], what: str, least: float) -> None:
    # The comparisons are written so that NaN fails them.
    if not (values >= least).all() or not (values < 1e15).all():
        sign = "positive" if least else "non-negative"
        raise SceneError(f"{what} has values that are not {sign} numbers")


def _unusable(path: str, kind: str, error: SceneError, advice: str) -> SceneError:
    what = str(error).removeprefix(f"{path}: ")
    return SceneError(f"{path}: a broken {kind} ({what}); get the product again, or {advice}")
