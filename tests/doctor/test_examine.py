"""The doctor finds what is wrong, and says what to do."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from paths import ROOT

from cwsam_geo.cli.main import main
from cwsam_geo.doctor import examine as examination
from cwsam_geo.doctor.examine import examine
from cwsam_geo.errors import ModelError
from cwsam_geo.model.runtime.predictor import load_model
from cwsam_geo.model.runtime.self_check import check_file, check_model, numbers
from cwsam_geo.prediction.options import DEFAULT_MODEL

BUNDLES = [p for p in sorted((ROOT / "weights").glob("*.safetensors")) if check_file(p).is_file()]


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.stem)
def test_bundled_models_give_the_numbers_stored_with_them(bundle):
    # After a change of a bundle: python -m cwsam_geo.model.runtime.self_check BUNDLE
    assert check_model(bundle) is None


def test_the_default_model_has_numbers():
    assert DEFAULT_MODEL in {bundle.stem for bundle in BUNDLES}


def test_a_model_with_other_weights_is_noticed(tmp_path):
    bundle = shutil.copy(BUNDLES[0], tmp_path)
    with pytest.raises(ModelError, match="no numbers"):
        check_model(bundle)
    found = numbers(load_model(bundle))
    found["logits"][0][0][0] += 0.02 * (found["range"][1] - found["range"][0])
    check_file(bundle).write_text(json.dumps(found))
    assert "differ by up to 2" in check_model(bundle)


def test_a_healthy_installation(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["doctor"])
    out = capsys.readouterr().out
    assert stopped.value.code == 0, out
    assert "ERROR" not in out
    for name in ("python", "packages", "gdal", "vectors", "proj", "device", "memory", "disk"):
        assert f"  {name}: " in out
    assert "model s1-water: gives the numbers" in out


def test_a_database_that_does_not_fit_is_named(tmp_path):
    (tmp_path / "proj.db").write_bytes(b"not a database")
    done = subprocess.run(
        [sys.executable, "-m", "cwsam_geo.cli.main", "doctor", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PROJ_DATA": str(tmp_path)},
    )
    checks = {c["name"]: c for c in json.loads(done.stdout)["checks"]}
    assert checks["proj"]["status"] == "warning"
    assert str(tmp_path) in checks["proj"]["found"]
    assert checks["proj"]["advice"] == "unset PROJ_DATA"


def test_what_is_wrong_is_an_error_with_advice(monkeypatch):
    monkeypatch.setattr(examination, "_RASTER_DRIVERS", ("GTiff", "NoSuchDriver"))
    monkeypatch.setattr(examination, "_PACKAGES", ("numpy", "no-such-package"))
    found = {c.name: c for c in examine().checks}
    assert found["gdal"].status == "error"
    assert "NoSuchDriver" in found["gdal"].found
    assert found["packages"].advice == "pip install no-such-package"


def test_a_library_that_cannot_be_loaded_is_a_finding(monkeypatch):
    def broken():
        raise ImportError("libgdal.so.36: cannot open shared object file")
        yield

    monkeypatch.setattr(examination, "_gdal", broken)
    found = {c.name: c for c in examine().checks}
    assert found["broken"].status == "error"
    assert "libgdal" in found["broken"].found
    assert "python" in found
