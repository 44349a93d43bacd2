"""The report of a map: ``cwsam-geo report`` and ``predict --report``."""
