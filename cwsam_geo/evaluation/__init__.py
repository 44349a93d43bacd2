"""``cwsam-geo evaluate``: a map and a reference to an accuracy assessment."""
