"""``cwsam-geo doctor``: whether this installation can do its work, and what to do if not."""
