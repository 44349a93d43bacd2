"""Labelled scenes to samples."""
