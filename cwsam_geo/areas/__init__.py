"""``cwsam-geo areas``: how much ground each class of a map covers."""
