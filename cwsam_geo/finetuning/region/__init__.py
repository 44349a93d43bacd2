"""The region file: which scenes, which labels, which classes, which recipe."""
