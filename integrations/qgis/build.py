"""Builds the QGIS plugin as a zip file that QGIS installs.

    python integrations/qgis/build.py [--output FOLDER] [--email ADDRESS --repository URL ...]

The version is that of cwsam-geo. plugins.qgis.org also asks for an address, a repository and a
tracker, which whoever uploads the plugin gives; without them the zip is for "Install from ZIP".
"""

from __future__ import annotations

import argparse
import configparser
import io
import re
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLUGIN = "cwsam_geo_qgis"
"""Folder of the plugin, in the zip too: the name of its Python package."""

CONTACTS = ("email", "repository", "tracker", "homepage")
"""Entries of metadata.txt that whoever uploads the plugin gives; the last one is optional."""

_DATE = (2026, 1, 1, 0, 0, 0)
"""Date of all files in the zip, so that the same sources give the same bytes."""


def version() -> str:
    """The version of cwsam-geo, read without importing it."""
    text = (HERE.parents[1] / "cwsam_geo" / "_version.py").read_text(encoding="utf-8")
    found = re.search(r'__version__ = "([^"]+)"', text)
    assert found is not None
    return found[1]


def metadata(contacts: dict[str, str]) -> str:
    """Text of metadata.txt, with the version and the contacts."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case
    parser.read(HERE / PLUGIN / "metadata.txt", encoding="utf-8")
    parser["general"].update({"version": version(), **contacts})
    text = io.StringIO()
    parser.write(text, space_around_delimiters=False)
    return text.getvalue()


def build(folder: Path, contacts: dict[str, str]) -> Path:
    """Writes the zip and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{PLUGIN}-{version()}.zip"
    files = [p for p in (HERE / PLUGIN).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(files):
            entry = zipfile.ZipInfo(file.relative_to(HERE).as_posix(), _DATE)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            is_metadata = file.name == "metadata.txt"
            content = metadata(contacts).encode() if is_metadata else file.read_bytes()
            archive.writestr(entry, content)
    return path


def main() -> None:
    """Builds the plugin as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder for the zip")
    for name in CONTACTS:
        parser.add_argument(f"--{name}", metavar="TEXT", help="entry of metadata.txt")
    arguments = vars(parser.parse_args())
    folder = arguments.pop("output")
    contacts = {name: text for name, text in arguments.items() if text}
    print(build(folder, contacts))
    missing = [name for name in CONTACTS[:3] if name not in contacts]
    if missing:
        print(f"for Install from ZIP; plugins.qgis.org also asks for --{', --'.join(missing)}")


if __name__ == "__main__":
    main()
