"""Checkpoints of SAM and of CWSAM's authors: download and conversion."""
