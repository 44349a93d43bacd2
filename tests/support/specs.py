"""Preprocessing specifications for tests."""

from cwsam_geo.core.preprocess import PreprocessSpec


def spec(bands=("VV", "VH"), scaling="db", fill=None, quantiles=None):
    return PreprocessSpec(
        bands=bands,
        channels=(bands[0], bands[-1], bands[0]),
        scaling=scaling,
        clip=((-35.0, 5.0),) * len(bands),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        tile_size=64,
        fill=fill or (None,) * len(bands),
        quantiles=quantiles,
    )
