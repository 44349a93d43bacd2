"""``cwsam-geo preview``: a picture of a map or scene with legend, scale bar and coordinates."""
