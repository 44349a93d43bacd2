"""What agencies and companies deliver: each module knows the metadata of one family of products.

``recognise`` asks them in turn about an open raster. Their answers have one form, ``Product``:
polarisation, nodata, units and calibration of each band.
"""
