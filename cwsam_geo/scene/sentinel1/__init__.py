"""Sentinel-1 products as the agency delivers them: files, tables, calibration."""
