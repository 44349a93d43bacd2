"""Scenes that only control points place on the ground, where a formula says where each pixel is."""

import numpy as np
import pyproj
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS


class Swath:
    """Pixels in the view of a radar: turned, mirrored and curved, around a place.

    Args:
        shape: Rows and columns.
        middle: Longitude and latitude of the middle.
        size: Metres per pixel.
        curve: Pixels by which the middle of a row lies beside a straight line.
        relief: Pixels by which hills displace pixels at random, at control points only.
    """

    def __init__(self, shape, middle=(15.0, 47.0), size=10.0, curve=3.0, relief=0.0, seed=0):
        self.shape, self.size, self.curve = shape, size, curve
        self.plane = pyproj.Proj(proj="laea", lat_0=middle[1], lon_0=middle[0], ellps="WGS84")
        self.relief, self.rng = relief, np.random.default_rng(seed)

    def metres(self, cols, rows):
        """Metres east and north of the middle."""
        height, width = self.shape
        u, v = cols - width / 2, rows - height / 2
        u = u + self.curve * (1 - (2 * u / width) ** 2)
        angle = np.radians(190)
        east = self.size * (u * np.cos(angle) - v * np.sin(angle))
        north = -self.size * (u * np.sin(angle) + v * np.cos(angle))
        return east, north

    def degrees(self, cols, rows):
        """Longitudes and latitudes, from -180 to 180, of pixel coordinates."""
        lon, lat = self.plane(*self.metres(np.asarray(cols, float), np.asarray(rows, float)),
                              inverse=True)  # fmt: skip
        return np.asarray(lon), np.asarray(lat)

    def pixels(self, lon, lat):
        """Columns and rows of longitudes and latitudes: the inverse of ``degrees``."""
        east, north = (np.asarray(v) / self.size for v in self.plane(lon, lat))
        angle = np.radians(190)
        # u and v of metres(): a rotation that is its own inverse
        u = east * np.cos(angle) - north * np.sin(angle)
        v = -east * np.sin(angle) - north * np.cos(angle)
        height, width = self.shape
        straight = u - self.curve
        for _ in range(20):
            straight = u - self.curve * (1 - (2 * straight / width) ** 2)
        return straight + width / 2, v + height / 2

    def points(self, along=15, down=11):
        """Ground control points on a regular grid of pixels."""
        height, width = self.shape
        where = [(r, c) for r in np.linspace(0, height, down) for c in np.linspace(0, width, along)]
        points = []
        for row, col in where:
            lon, lat = self.degrees(col + self.relief * self.rng.uniform(-1, 1), row)
            points.append(GroundControlPoint(row, col, float(lon), float(lat), 0.0))
        return points


def place(path, swath, crs=4326):
    """Gives a raster the control points of a swath, and no geotransform."""
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = swath.points(), CRS.from_epsg(crs)
    return path
