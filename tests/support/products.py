"""Small Sentinel-1 products in the layout of the real ones, and what their values should be."""

import zipfile

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint

STEM = "s1b-iw-grd-{0}-20211223t051122-20211223t051147-030148-039993-{1}"
NAME = "S1B_IW_GRDH_1SDV_20211223T051122_20211223T051147_030148_039993_5371.SAFE"
SHAPE = (150, 230)


class Tables:
    """Tables of one band, with nodes that fit the raster badly, as the real ones do."""

    def __init__(self, shape=SHAPE, layout="modern", level=600.0, noise=2000.0):
        height, width = shape
        self.shape, self.layout = shape, layout
        self.lines = [0, height // 3, 2 * height // 3 + 1, height + 7]
        self.pixels = [*range(0, width - 1, 40), width - 1]
        where = np.add.outer(np.arange(4) * 9, np.linspace(0, 90, len(self.pixels)))
        self.sigma = level - where
        self.noise_lines = [0, height // 2, height - 1]
        self.noise_pixels = [[*range(i, width - 1, 37), width] for i in (0, 5, 0)]
        self.noise = [noise + 3 * np.array(p) + 50 * i for i, p in enumerate(self.noise_pixels)]
        middle, third = width // 2, height // 3
        every = [*range(0, height, 10), height - 1]
        # Two swaths; the second in two blocks whose border is not that of the first.
        self.blocks = [
            ("IW1", 0, 0, height - 1, middle - 1, every, 1.1 + 0.1 * np.sin(every)),
            ("IW2", 0, middle, third, width - 1, every, 0.9 + 0.1 * np.cos(every)),
            ("IW2", third + 1, middle + 3, height - 1, width - 1, every, 1 + 0.2 * np.cos(every)),
        ]

    def amplitude(self):
        """``sigmaNought`` of every pixel, float64."""
        return bilinear(self.lines, [self.pixels] * 4, self.sigma, self.shape)

    def noise_power(self):
        """Noise of every pixel, float64."""
        noise = bilinear(self.noise_lines, self.noise_pixels, self.noise, self.shape)
        if self.layout == "modern":
            for _, top, left, bottom, right, lines, factors in self.blocks:
                for row in range(top, bottom + 1):
                    noise[row, left : right + 1] *= np.interp(row, lines, factors)
        return noise

    def expected(self, numbers):
        """Sigma nought of digital numbers of the whole raster, float64; -50 dB at least."""
        power = np.square(numbers.astype(np.float64))
        noise = 0 if self.layout == "none" else self.noise_power()
        return np.maximum((power - noise) / np.square(self.amplitude()), 1e-5)

    def numbers(self, sigma):
        """Digital numbers whose sigma nought is as given, but for rounding."""
        power = sigma * np.square(self.amplitude()) + self.noise_power()
        return np.rint(np.sqrt(power)).astype(np.uint16)

    def calibration_xml(self):
        vectors = "".join(
            f"<calibrationVector><azimuthTime>2021-12-23T05:11:22.594441</azimuthTime>"
            f"<line>{line}</line>{numbers('pixel', self.pixels)}{numbers('sigmaNought', sigma)}"
            f"{numbers('betaNought', sigma * 0 + 400)}</calibrationVector>"
            for line, sigma in zip(self.lines, self.sigma, strict=True)
        )
        return document("calibration", f'<calibrationVectorList count="4">{vectors}'
                        "</calibrationVectorList>")  # fmt: skip

    def noise_xml(self):
        modern = self.layout == "modern"
        vector, lut = (
            ("noiseRangeVector", "noiseRangeLut") if modern else ("noiseVector", "noiseLut")
        )
        rows = zip(self.noise_lines, self.noise_pixels, self.noise, strict=True)
        text = "".join(
            f"<{vector}><line>{line}</line>{numbers('pixel', pixels)}{numbers(lut, noise)}"
            f"</{vector}>"
            for line, pixels, noise in rows
        )
        text = f'<{vector}List count="3">{text}</{vector}List>'
        if modern:
            blocks = "".join(
                f"<noiseAzimuthVector><swath>{swath}</swath>"
                f"<firstAzimuthLine>{top}</firstAzimuthLine><firstRangeSample>{left}"
                f"</firstRangeSample><lastAzimuthLine>{bottom}</lastAzimuthLine>"
                f"<lastRangeSample>{right}</lastRangeSample>{numbers('line', lines)}"
                f"{numbers('noiseAzimuthLut', factors)}</noiseAzimuthVector>"
                for swath, top, left, bottom, right, lines, factors in self.blocks
            )
            text += f'<noiseAzimuthVectorList count="3">{blocks}</noiseAzimuthVectorList>'
        return document("noise", text)


def bilinear(lines, pixels, values, shape):
    """Columns first, then lines, in float64."""
    rows = [np.interp(np.arange(shape[1]), p, v) for p, v in zip(pixels, values, strict=True)]
    columns = [np.interp(np.arange(shape[0]), lines, column) for column in np.transpose(rows)]
    return np.transpose(columns)


def numbers(tag, values):
    text = " ".join(f"{v:.17g}" for v in values)
    return f'<{tag} count="{len(values)}">{text}</{tag}>'


def document(root, content):
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}><adsHeader><mode>IW</mode></adsHeader>'
        f"{content}</{root}>\n"
    )


def control_points(shape):
    """A rotated grid of points, as a product has them."""
    rows, cols = np.linspace(0, shape[0], 4), np.linspace(0, shape[1], 5)
    return [
        GroundControlPoint(r, c, 11 + 1e-4 * c + 2e-5 * r, 48 - 9e-5 * r + 2e-5 * c, 400.0)
        for r in rows
        for c in cols
    ]


def annotation_xml(shape):
    """The same points as ``control_points``, as the annotation has them."""
    points = "".join(
        f"<geolocationGridPoint><line>{p.row:g}</line><pixel>{p.col:g}</pixel>"
        f"<latitude>{p.y:.17g}</latitude><longitude>{p.x:.17g}</longitude><height>{p.z:.17g}</height>"
        "</geolocationGridPoint>"
        for p in control_points(shape)
    )
    grid = f'<geolocationGridPointList count="20">{points}</geolocationGridPointList>'
    return document("product", f"<geolocationGrid>{grid}</geolocationGrid>")


def write_measurement(path, stored, placed=True, **profile):
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=stored.shape[0], width=stored.shape[1],
        dtype=profile.pop("dtype", stored.dtype), **profile,
    ) as out:  # fmt: skip
        out.write(stored, 1)
        if placed:
            out.gcps = control_points(stored.shape), rasterio.CRS.from_epsg(4326)
    return path


def write_product(folder, bands, tables, stem=STEM, **profile):
    """A ``.SAFE`` folder.

    Args:
        folder: Where to put it.
        bands: Digital numbers by polarisation.
        tables: ``Tables`` by polarisation; those of layout "none" get no noise file.
        stem: Of the files' names.
        profile: For the measurement files.
    """
    product = folder / NAME
    calibration = product / "annotation" / "calibration"
    calibration.mkdir(parents=True)
    (product / "measurement").mkdir()
    (product / "manifest.safe").write_text("<xfdu/>")
    for number, (name, stored) in enumerate(bands.items(), 1):
        own = stem.format(name.lower(), f"{number:03}")
        write_measurement(product / "measurement" / f"{own}.tiff", stored, **profile)
        (calibration / f"calibration-{own}.xml").write_text(tables[name].calibration_xml())
        if tables[name].layout != "none":
            (calibration / f"noise-{own}.xml").write_text(tables[name].noise_xml())
    return product


def zipped(product, compression=zipfile.ZIP_DEFLATED):
    """The product as the zip archive it is delivered in."""
    archive = product.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", compression) as out:
        for file in sorted(product.rglob("*")):
            out.write(file, file.relative_to(product.parent))
    return archive
