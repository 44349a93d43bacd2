"""``cwsam-geo info``: what a file is, and what ``predict`` would do with it."""
