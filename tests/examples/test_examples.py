"""The examples: scripts and the notebook run again, and texts that must stay true."""

import ast
import base64
import json
import re
import shlex
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import geopandas
import pytest
import rasterio
from paths import EXAMPLES

from cwsam_geo.cli.main import COMMANDS, cli
from cwsam_geo.model.bundles.bundle import read_header

TEXTS = [EXAMPLES / "README.md", EXAMPLES / "get_scenes.md"]
NOTEBOOK = json.loads((EXAMPLES / "landcover.ipynb").read_text(encoding="utf-8"))


def run(script, *arguments, cwd):
    """Runs a script as a user would, in a fresh process."""
    return subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )


def figures(text):
    """What stands behind each ``mIoU`` in a text."""
    return [float(number) for number in re.findall(r"^mIoU +([0-9.]+)", text, re.MULTILINE)]


# The walk-throughs


def test_a_scene_becomes_a_map_polygons_and_figures(tmp_path):
    done = run(EXAMPLES / "map_scene.py", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.rglob("*")} == {
        "out", "landcover.tif", "landcover.tif.aux.xml", "landcover.qml", "confidence.tif",
        "landcover.gpkg",
    }  # fmt: skip
    out = tmp_path / "out"
    with rasterio.open(EXAMPLES / "scene.tif") as scene, rasterio.open(out / "landcover.tif") as m:
        assert (m.shape, m.transform, m.crs) == (scene.shape, scene.transform, scene.crs)
    frame = geopandas.read_file(out / "landcover.gpkg", layer=0)
    assert frame.is_valid.all()
    assert frame.mean_confidence.between(0, 100).all()
    assert f"landcover.gpkg: {len(frame)} polygons" in done.stdout
    (miou,) = figures(done.stdout.replace(",", " "))
    assert miou > 0.4


@pytest.mark.parametrize("script", ["map_scene.py", "tune_region.py"])
def test_walk_throughs_touch_no_folder_that_is_there(tmp_path, script):
    (tmp_path / "out").mkdir()
    done = run(EXAMPLES / script, "out", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "out exists; give the name of a new folder\n"
    assert not list((tmp_path / "out").iterdir())
    assert run(EXAMPLES / script, cwd=tmp_path).stderr.startswith("usage: ")


@pytest.mark.slow
def test_the_tuned_model_is_better_in_the_new_region(tmp_path):
    done = run(EXAMPLES / "tune_region.py", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    before, after = (
        json.loads((out / f"{name}.json").read_text())["overall"]["miou"]
        for name in ("before", "after")
    )
    assert after > before + 0.05
    assert figures(done.stdout) == [round(before, 4), round(after, 4)]
    assert read_header(out / "region.safetensors").kind == "adapters"
    # The scene that was compared is none of those that were trained on.
    region = (out / "region.yaml").read_text(encoding="utf-8")
    assert "new_scene" not in region
    assert len(list((out / "train").glob("*_scene.tif"))) == 2


# The notebook


def cells(kind):
    return [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == kind]


def printed():
    """Everything that the code cells printed when the notebook was executed."""
    outputs = [output for cell in cells("code") for output in cell["outputs"]]
    return "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")


def test_the_notebook_is_stored_as_executed_from_top_to_bottom():
    assert [cell["execution_count"] for cell in cells("code")] == list(
        range(1, len(cells("code")) + 1)
    )
    outputs = [output for cell in cells("code") for output in cell["outputs"]]
    assert "error" not in {output["output_type"] for output in outputs}
    assert {o.get("name", "stdout") for o in outputs} == {"stdout"}
    images = [o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    assert len(images) >= 5
    assert all(base64.b64decode(image).startswith(b"\x89PNG") for image in images)
    size = (EXAMPLES / "landcover.ipynb").stat().st_size
    assert size < 1_000_000
    # No place of the machine it was executed on.
    assert not re.search(r"/(home|tmp|Users|root|work)/", printed())


@pytest.mark.slow
def test_the_notebook_runs_again_with_the_same_figures(tmp_path):
    for name in ("scene.tif", "scene_truth.tif"):
        shutil.copy(EXAMPLES / name, tmp_path)
    start = "import matplotlib\n\nmatplotlib.use('Agg')\n"
    code = "\n\n".join("".join(cell["source"]) for cell in cells("code"))
    (tmp_path / "notebook.py").write_text(start + code, encoding="utf-8")
    done = run("notebook.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert geopandas.read_file(tmp_path / "output" / "landcover.gpkg", layer=0).is_valid.all()
    # Processors round differently; another model would be further off.
    assert figures(done.stdout.replace(",", " ")) == pytest.approx(
        figures(printed().replace(",", " ")), abs=0.02
    )


# The texts


def blocks(text, kind):
    return re.findall(rf"^ *```{kind}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)


def markdown():
    """Every text of the folder that holds commands or code."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in TEXTS}
    return texts | {"landcover.ipynb": "\n\n".join("".join(c["source"]) for c in cells("markdown"))}


def command_lines():
    return [
        (name, line.strip())
        for name, text in markdown().items()
        for line in re.findall(r"^ *(cwsam-geo .*)$", text, re.MULTILINE)
    ]


@pytest.mark.parametrize(("name", "text"), markdown().items())
def test_python_in_the_texts_compiles_and_uses_names_that_exist(name, text):
    import cwsam_geo

    for block in blocks(text, "python"):
        tree = ast.parse("\n".join(re.sub(r"^   ", "", line) for line in block.splitlines())
                         if name.endswith("ipynb") else block)  # fmt: skip
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "cwsam_geo":
                assert node.attr in cwsam_geo.__all__
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "PredictOptions":
                fields = cwsam_geo.PredictOptions.__dataclass_fields__
                assert {keyword.arg for keyword in node.keywords} <= set(fields)


@pytest.mark.parametrize(("name", "line"), command_lines())
def test_command_lines_in_the_texts_are_understood(name, line):
    words = shlex.split(line)[1:]
    command = cli.get_command(None, words[0])
    assert command is not None, line
    command.make_context(words[0], words[1:])


def test_the_texts_show_command_lines():
    assert {"README.md", "get_scenes.md"} <= {name for name, _ in command_lines()}
    assert len(blocks(markdown()["get_scenes.md"], "python")) >= 5
    for text in markdown().values():
        for name in re.findall(r"`cwsam-geo ([a-z]+)", text):
            assert name in COMMANDS


def test_links_within_the_texts_lead_somewhere():
    for text in markdown().values():
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
        assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= anchors


def test_the_table_of_contents_names_every_file_and_no_other():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    table = text[: text.index("\n## ")]
    named = set(re.findall(r"`(\w+(?:\.\w+)?)`", table)) - {"demo"}
    there = {
        path.name for path in EXAMPLES.iterdir()
        if not path.name.startswith((".", "__")) and path.name not in ("README.md", "output")
    }  # fmt: skip
    assert named == there


def test_the_graph_for_snap_is_one_chain():
    graph = ElementTree.parse(EXAMPLES / "snap_rtc.xml").getroot()
    before = None
    for node in graph.iter("node"):
        source = node.find("sources/sourceProduct")
        assert (None if source is None else source.get("refid")) == before
        before = node.get("id")
    assert before == "write"
    text = (EXAMPLES / "get_scenes.md").read_text(encoding="utf-8")
    for name in re.findall(r"\$\{(\w+)\}", (EXAMPLES / "snap_rtc.xml").read_text()):
        assert f"-P{name}=" in text
