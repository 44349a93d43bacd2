"""The arrows of the design: who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cwsam_geo"
BASE = {
    "errors", "grid", "legend", "preprocess", "ops", "blend", "metrics", "tally", "units",
    "matching", "fill",
}  # fmt: skip
FORBIDDEN_FILES = {"utils.py", "helpers.py", "misc.py"}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def room(path):
    """The part of the house that a module belongs to."""
    return room_of(path.relative_to(PACKAGE).with_suffix("").parts)


def room_of(parts):
    # Atomic outputs serve everyone who writes.
    return "base" if parts[0] in BASE or parts[:2] == ("io", "atomic") else parts[0]


def imports(path):
    """All imports of a module, but for those that only type checkers see."""
    found = set()

    def visit(node):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def own_rooms(path):
    names = [tuple(i.split(".")[1:]) for i in imports(path) if i.startswith("cwsam_geo.")]
    return {room_of(n) for n in names} - {room(path)}


ALLOWED = {
    "base": set(),
    "io": {"base"},
    "model": {"base"},
    "stream": {"base", "io"},
    "undeclared": {"base", "io"},
    "reading": {"base", "io", "undeclared"},
    "predict": {"base", "io", "stream"},
    "vectorization": {"base", "io"},
    "train": {"base", "io", "model", "reading"},
}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(path):
    allowed = ALLOWED.get(room(path))
    if allowed is not None:
        assert own_rooms(path) <= allowed
    if room(path) == "base":
        assert not {i.split(".")[0] for i in imports(path)} & {"torch", "geopandas", "pyogrio"}
        assert "open(" not in path.read_text().replace("_open(", "")
    if room(path) in ("base", "io", "stream", "predict"):
        assert "torch" not in {i.split(".")[0] for i in imports(path)}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_are_short_and_have_speaking_names(path):
    assert path.name not in FORBIDDEN_FILES
    assert len(path.read_text().splitlines()) <= 320


def test_help_does_not_import_what_is_heavy():
    code = (
        "import sys\n"
        "from cwsam_geo.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'rasterio', 'geopandas', 'numpy', 'shapely'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "predict" in done.stdout


def test_what_the_package_promises_is_there_and_no_module_has_its_name():
    import cwsam_geo

    for name in set(cwsam_geo.__all__) - {"__version__"}:
        assert callable(getattr(cwsam_geo, name))
        assert not (PACKAGE / f"{name}.py").exists()
        assert not (PACKAGE / name).exists()
