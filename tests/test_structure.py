"""The arrows of the design: who may import whom.

A unit is a first folder or a file of the package's root. Imports under ``TYPE_CHECKING`` and inside
functions count as all others do. Run as a script, this prints the figures of the whole structure.
"""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cwsam_geo"
FORBIDDEN_FILES = {"utils.py", "helpers.py", "misc.py"}
MAX_LINES = 400

GROUND = {"errors", "_version"}
"""Units that every other may import."""

ANY = None
ALLOWED = {
    "errors": set(),
    "_version": set(),
    "atomic": set(),
    "core": set(),
    "io": {"core", "atomic"},
    "model": {"core", "atomic"},
    "scene": {"core", "io"},
    "rendering": {"core", "io", "scene"},
    "vectorization": {"core", "io", "atomic"},
    "areas": {"core", "io", "atomic"},
    "pages": {"core", "io", "scene", "rendering"},
    "evaluation": {"core", "io", "atomic", "scene", "pages"},
    "map_report": {"core", "io", "atomic", "scene", "model", "evaluation", "pages"},
    "pictures": {"core", "io", "atomic", "scene", "rendering", "evaluation"},
    "prediction": {
        *("core", "io", "atomic", "scene", "model", "vectorization", "areas", "pictures"),
        "map_report",
    },
    "finetuning": {"core", "io", "atomic", "scene", "model", "pages"},
    "mosaicking": {"core", "io", "atomic"},
    "info": {"core", "io", "scene", "model", "prediction"},
    "doctor": {"io", "model", "prediction"},
    "fetch": {"core", "io", "atomic", "scene"},
    "batch": {"core", "io", "atomic", "scene", "model", "prediction", "mosaicking"},
    "__init__": ANY,
    "cli": ANY,
}

LEVELS = {
    "finetuning": ("targets", "region", {"split", "training"}, "data", "report", "."),
    "model": ("network", "device", {"bundles", "fast"}, "upstream", "store", "runtime"),
    "scene": ("sentinel1", "products", "."),
    "vectorization": ("coverage", "."),
}
"""The order of the rooms inside a folder: a room imports only from those left of it. Rooms in one
set do not import each other. ``.`` stands for the files beside the rooms."""

WITHOUT_MODEL = {"prediction.pipeline", "prediction.stream", "prediction.blend"}
"""Modules that take the network as a callable, so that the pipeline is tested without torch."""

PURE = {
    "core": {"torch", "geopandas", "pyogrio", "pyproj", "shapely"},
    "vectorization.coverage": {"torch", "geopandas", "pyogrio", "pyproj", "rasterio"},
}
"""Folders that open no file, and the libraries that they do without."""

TORCH = {"model", "finetuning"}
"""Only these units import torch."""


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def unit(module):
    return module.split(".")[0]


@cache
def imports(module):
    """Everything that a module imports, as full dotted names."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def libraries(module):
    return {name.split(".")[0] for name in imports(module)}


@cache
def own_imports(module):
    """The package's modules that a module imports."""
    targets = set()
    for name in imports(module):
        parts = name.split(".")
        if parts[0] != "cwsam_geo":
            continue
        inside = ".".join(parts[1:])
        target = inside if inside in MODULES else ".".join(parts[1:-1]) or "__init__"
        targets.add(target)
    return targets - {module}


def arrows():
    """Pairs of units of which the first imports the second."""
    return {
        (unit(m), unit(t)) for m in MODULES for t in own_imports(m) if unit(m) != unit(t)
    }  # fmt: skip


def levels():
    """For each unit, the length of the longest chain of imports below it."""
    below = {u: {t for s, t in arrows() if s == u} for u in map(unit, MODULES)}
    height = {}

    def measure(name, above=()):
        assert name not in above, f"units import each other: {(*above, name)}"
        if name not in height:
            height[name] = 1 + max((measure(b, (*above, name)) for b in below[name]), default=0)
        return height[name]

    return {name: measure(name) for name in below}


def circles(graph):
    """Strongly connected components of two nodes or more (Tarjan's algorithm)."""
    number, low, stack, components = {}, {}, [], []

    def visit(node):
        number[node] = low[node] = len(number)
        stack.append(node)
        for target in graph[node]:
            if target not in number:
                visit(target)
            if target in stack:
                low[node] = min(low[node], low[target])
        if low[node] == number[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                components.append(sorted(component))

    for node in graph:
        if node not in number:
            visit(node)
    return components


def floor(folder, module):
    """Position of a module's room in the order of its folder, and the room's name."""
    parts = module.split(".")[1:]
    room = parts[0] if parts else "."
    for position, rooms in enumerate(LEVELS[folder]):
        if room in ({rooms} if isinstance(rooms, str) else rooms):
            return position, room
    position = next((i for i, r in enumerate(LEVELS[folder]) if r == "."), None)
    assert position is not None, f"LEVELS does not name {module}"
    return position, "."


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows(module):
    assert unit(module) in ALLOWED, "a new unit: give it a place in ALLOWED and in DESIGN.md"
    allowed = ALLOWED[unit(module)]
    if allowed is not ANY:
        assert {unit(t) for t in own_imports(module)} <= allowed | GROUND | {unit(module)}
    if module in WITHOUT_MODEL:
        assert "model" not in {unit(t) for t in own_imports(module)}
    if unit(module) not in TORCH:
        assert "torch" not in libraries(module)
    for folder, heavy in PURE.items():
        if module == folder or module.startswith(f"{folder}."):
            assert not libraries(module) & heavy
            assert " open(" not in MODULES[module].read_text()


@pytest.mark.parametrize("module", [m for m in MODULES if unit(m) in LEVELS and m != unit(m)])
def test_rooms_of_a_folder_have_an_order(module):
    folder = unit(module)
    position, room = floor(folder, module)
    for target in own_imports(module):
        if unit(target) == folder and target != folder:
            below, other = floor(folder, target)
            assert below < position or other == room, f"{module} imports {target}"


def test_no_modules_import_each_other():
    assert circles({module: own_imports(module) for module in MODULES}) == []


@pytest.mark.parametrize("path", MODULES.values(), ids=MODULES)
def test_modules_are_short_and_have_speaking_names(path):
    assert path.name not in FORBIDDEN_FILES
    assert len(path.read_text().splitlines()) <= MAX_LINES


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


def test_extras_that_messages_name_exist():
    project = (PACKAGE.parent / "pyproject.toml").read_text()
    extras = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    for path in MODULES.values():
        for extra in re.findall(r"cwsam-geo\[(\w[\w-]*)\]", path.read_text()):
            assert re.search(rf"^{re.escape(extra)} = ", extras, re.MULTILINE), (path, extra)


def figures():
    """Figures of the structure, for people."""
    height = levels()
    up = [(s, t) for s, t in arrows() if height[t] >= height[s]]
    graph = {module: own_imports(module) for module in MODULES}
    return {
        "units": len(height),
        "levels": max(height.values()),
        "arrows": len(arrows()),
        "arrows that run back up": len(up),
        "circles": len(circles(graph)),
        "files at the root": len([p for p in MODULES.values() if p.parent == PACKAGE]),
        "files": len(MODULES),
    }


if __name__ == "__main__":
    for figure, value in figures().items():
        print(f"{value:5}  {figure}")
