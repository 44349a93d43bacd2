"""The model: CWSAM's architecture, its bundles, conversion from upstream, and prediction."""
