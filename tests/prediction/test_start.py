"""What a map needs before its first tile."""

import subprocess
import sys

CODE = """
import sys
from cwsam_geo.model.device import resolve_device
from cwsam_geo.model.runtime.predictor import LoadedModel
from cwsam_geo.model.store import load_full
from cwsam_geo.prediction import predict_scene
LoadedModel(load_full("demo"), resolve_device("cpu"), "fp32", "fast")
heavy = {"torch._dynamo", "sympy", "pandas", "geopandas", "scipy", "torchvision"}
print(*sorted(heavy & set(sys.modules)))
"""


def test_no_library_is_imported_that_takes_long_and_is_not_needed():
    """Each of them takes from a quarter of a second to as long as torch itself."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
