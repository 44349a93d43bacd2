"""Reading the tables of a Sentinel-1 product (calibration, noise, place), and checking them."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint

from cwsam_geo.errors import SceneError
from cwsam_geo.grid import Window
from cwsam_geo.io.product_xml import read_xml
from cwsam_geo.io.sentinel1 import AzimuthBlock, Noise, SigmaNought, TableFiles, Vectors

_OLD_LIST = "noiseVectorList"
"""Where noise is before IPF 2.9."""

_MOST_VECTORS = 1000
_MOST_POINTS = 20_000
_MOST_TEXT = 1 << 20
_LEAST_AMPLITUDE = 1e-6
_LEAST_NOISE = 1e-4
"""Noise below -40 dB of sigma nought cannot be Sentinel-1's, whose floor lies at -22 to -30 dB:
processors before the middle of 2015 gave it in other units."""

_MOST_NOISE = 0.3
"""Nor above -5 dB: some of WV were 30 dB too high in 2018, and would make all pixels dark."""


def read_sigma_nought(files: TableFiles, height: int, width: int) -> SigmaNought:
    """The calibration of a measurement file.

    Args:
        files: Its tables.
        height: Rows of the measurement file.
        width: Its columns.

    Raises:
        SceneError: A table is damaged, or does not fit the raster; the message names the file.
    """
    shape = height, width
    try:
        root = read_xml(files.calibration)
        vectors = _members(root, "calibrationVectorList", "calibrationVector")
        amplitude = _vectors(vectors, "sigmaNought", shape, _LEAST_AMPLITUDE)
        _check_covers(amplitude.lines, height, "lines")
    except SceneError as error:
        advice = "pass --units amplitude to read its digital numbers as they are"
        raise _unusable(files.calibration, "calibration table", error, advice) from None
    if files.noise is None:
        return SigmaNought(amplitude, None, "the product has no noise table")
    try:
        root = read_xml(files.noise)
        noise, old = _noise(root, shape), root.find(_OLD_LIST) is not None
    except SceneError as error:
        advice = "delete this file to go on without removal of thermal noise"
        raise _unusable(files.noise, "noise table", error, advice) from None
    level = noise.vectors.values.mean() / amplitude.values.mean() ** 2
    why = ""
    if level < _LEAST_NOISE:
        why = "the noise table is empty or in units of before 2015"
    elif level > _MOST_NOISE:
        why = "the noise table has more than Sentinel-1 can have"
    elif files.annotation is not None and _denoised(files.annotation):
        why = "its processor removed it already"
    return SigmaNought(amplitude, None if why else noise, why, noisy_borders=old)


def _denoised(annotation: str) -> bool:
    """Whether a product's annotation says that its processor removed thermal noise."""
    try:
        told = read_xml(annotation).findtext(
            "imageAnnotation/processingInformation/thermalNoiseCorrectionPerformed"
        )
    except SceneError:
        return False  # It is needed for nothing else here, and none of the usual processors does.
    return (told or "").strip().lower() == "true"


def control_points(annotation: str) -> tuple[GroundControlPoint, ...]:
    """The geolocation grid of a product, as GDAL gives it: longitude, latitude and height.

    Args:
        annotation: ``annotation/NAME.xml``.

    Raises:
        SceneError: It is damaged; the message names it.
    """
    try:
        grid = read_xml(annotation).find("geolocationGrid")
        if grid is None:
            raise SceneError("has no geolocationGrid")
        points = _members(grid, "geolocationGridPointList", "geolocationGridPoint", _MOST_POINTS)
        tags = ("line", "pixel", "longitude", "latitude", "height")
        found = [[_number(point, tag) for tag in tags] for point in points]
    except SceneError as error:
        advice = "delete this file to map the scene without control points"
        raise _unusable(annotation, "geolocation grid", error, advice) from None
    return tuple(GroundControlPoint(*values, id=str(i)) for i, values in enumerate(found, 1))


def _noise(root: Element, shape: tuple[int, int]) -> Noise:
    if root.find("noiseRangeVectorList") is None:
        along_range = _members(root, _OLD_LIST, "noiseVector")
        vectors = _vectors(along_range, "noiseLut", shape)
    else:
        along_range = _members(root, "noiseRangeVectorList", "noiseRangeVector")
        vectors = _vectors(along_range, "noiseRangeLut", shape)
    # Real ones of WV and of some IW SLC products end inside the raster: their last values hold.
    if vectors.lines[0] >= shape[0] or vectors.lines[-1] < 0:
        raise _misfit(vectors.lines, shape[0], "lines")
    blocks: list[AzimuthBlock] = []
    if root.find("noiseAzimuthVectorList/noiseAzimuthVector") is not None:
        along_azimuth = _members(root, "noiseAzimuthVectorList", "noiseAzimuthVector")
        blocks = [_block(element, shape) for element in along_azimuth]
    return Noise(vectors, tuple(blocks))


def _members(root: Element, list_tag: str, tag: str, most: int = _MOST_VECTORS) -> list[Element]:
    members = root.find(list_tag)
    if members is None:
        raise SceneError(f"has no {list_tag}")
    found = members.findall(tag)
    _check_count(members, len(found), list_tag)
    if len(found) > most:
        raise SceneError(f"{list_tag} holds {len(found):,} members")
    return found


def _vectors(
    elements: Sequence[Element], tag: str, shape: tuple[int, int], least: float = 0.0
) -> Vectors:
    """Vectors along range, interpolated to every column.

    Args:
        elements: One a line.
        tag: Of the values.
        shape: Height and width of the raster.
        least: Least value that is allowed.
    """
    width = shape[1]
    lines = np.array([_number(element, "line") for element in elements])
    _check_increasing(lines, "lines")
    values = np.empty((len(elements), width), np.float32)
    for row, line, element in zip(values, lines, elements, strict=True):
        where = f" of line {line:g}"
        pixels, given = _numbers(element, "pixel", where), _numbers(element, tag, where)
        if len(pixels) != len(given):
            raise SceneError(f"{len(pixels)} pixels, but {len(given)} values of {tag}{where}")
        _check_covers(pixels, width, f"pixels{where}")
        if pixels[-1] > 1.25 * width:  # of a larger raster than this
            raise _misfit(pixels, width, f"pixels{where}")
        _check_values(given, tag + where, least)
        row[:] = np.interp(np.arange(width), pixels, given)
    return Vectors(lines, values)


def _block(element: Element, shape: tuple[int, int]) -> AzimuthBlock:
    """A block along azimuth; without limits (SLC) it is the whole raster."""
    height, width = shape
    top = int(_number(element, "firstAzimuthLine", 0))
    left = int(_number(element, "firstRangeSample", 0))
    bottom = int(_number(element, "lastAzimuthLine", height - 1)) + 1
    right = int(_number(element, "lastRangeSample", width - 1)) + 1
    window = Window(top, left, bottom - top, right - left)
    where = f" of the azimuth block at line {top}, sample {left}"
    lines, factors = _numbers(element, "line", where), _numbers(element, "noiseAzimuthLut", where)
    if window.empty or len(lines) != len(factors):
        raise SceneError(f"{len(lines)} lines and {len(factors)} values{where}, or no pixel in it")
    _check_increasing(lines, f"lines{where}")
    _check_values(factors, f"noiseAzimuthLut{where}", 0.0)
    return AzimuthBlock(window.intersect(Window(0, 0, height, width)), lines, factors)


def _numbers(element: Element, tag: str, where: str) -> NDArray[np.float64]:
    """The numbers in a member, as many as it says."""
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


def _number(element: Element, tag: str, otherwise: float | None = None) -> float:
    text = element.findtext(tag)
    if text is None and otherwise is not None:
        return otherwise
    try:
        number = float(text or "")
    except ValueError:
        raise SceneError(f"a vector's {tag} is {(text or '')[:20]!r}, not a number") from None
    if not abs(number) < 1e9:
        raise SceneError(f"a vector's {tag} is {number:g}")
    return number


def _check_count(element: Element, found: int, what: str) -> None:
    told = element.get("count")
    if told is not None and told.strip() != str(found):
        raise SceneError(f"{what} should have {told[:20]} members, but has {found}")
    if not found:
        raise SceneError(f"{what} is empty")


def _check_increasing(places: NDArray[np.float64], what: str) -> None:
    if not np.isfinite(places).all() or (np.diff(places) <= 0).any():
        raise SceneError(f"the {what} do not increase")


def _check_covers(places: NDArray[np.float64], size: int, what: str) -> None:
    """Nodes increase and reach over the raster, but for a step between them at either end."""
    _check_increasing(places, what)
    step = min(np.diff(places).max(initial=0.0), size / 4)
    if places[0] > step or places[-1] < size - 1 - step:
        raise _misfit(places, size, what)


def _misfit(places: NDArray[np.float64], size: int, what: str) -> SceneError:
    return SceneError(
        f"the {what} go from {places[0]:g} to {places[-1]:g}, but the raster has {size}"
    )


def _check_values(values: NDArray[np.float64], what: str, least: float) -> None:
    # Comparisons with NaN are false.
    if not (values >= least).all() or not (values < 1e15).all():
        raise SceneError(f"{what} has values that are no {'positive ' if least else ''}numbers")


def _unusable(path: str, kind: str, error: SceneError, advice: str) -> SceneError:
    what = str(error).removeprefix(f"{path}: ")
    return SceneError(f"{path}: a broken {kind} ({what}); get the product again, or {advice}")
