"""Reading scenes, writing rasters and vectors."""

from cwsam_geo.io.proj_data import use_fitting_proj_data

# Before any module of this package makes a CRS.
use_fitting_proj_data()
