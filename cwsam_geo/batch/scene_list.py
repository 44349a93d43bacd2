"""Which scenes a batch consists of: files, folders, patterns, lists and STAC items."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cwsam_geo.batch.batch_scene import BatchScene, joined_name, scene_of
from cwsam_geo.batch.stac import read_items
from cwsam_geo.core.counting import how_many, were
from cwsam_geo.errors import UsageError
from cwsam_geo.io.raster_file import display_name, is_remote
from cwsam_geo.scene.band_names import (
    file_name,
    only_polarisation,
    polarisations,
    without_polarisations,
)
from cwsam_geo.scene.locations import is_one_scene, rasters_in

_ITEMS = (".json", ".geojson")
"""Suffixes of STAC items and item collections."""

_PRODUCTS = (".safe", ".dim", ".zip", ".zarr")
"""Suffixes of folders and files in a folder of scenes that are a scene each."""


@dataclass(frozen=True)
class SceneList:
    """The scenes of a batch in the order in which they were given, each once.

    Attributes:
        remarks: What was put together or left out, for the user.
    """

    scenes: tuple[BatchScene, ...]
    remarks: tuple[str, ...] = ()


def list_scenes(arguments: Iterable[str | os.PathLike[str]]) -> SceneList:
    """The scenes that a user means.

    Each argument is one of these:

    - a file, URL or product that ``predict`` takes;
    - a folder of scenes, or one that is a scene;
    - a pattern such as ``scenes/**/*.tif``;
    - ``@FILE``, a text file with one of the others on each line. A line may give the files of one
      scene, separated by tabs; ``#`` begins a comment; ``@-`` is standard input;
    - a STAC item or item collection (``.json``, ``.geojson``).

    Files of one folder whose names differ in the polarisation only are the bands of one scene.

    Raises:
        UsageError: A list cannot be read, a pattern or folder holds no scene, or there is no scene
            at all.
    """
    found = _Found()
    for argument in arguments:
        found.add(os.fspath(argument))
    scenes = _distinct(_paired(found.scenes, found.remarks), found.remarks)
    if not scenes:
        raise UsageError("no scenes given; give files, folders, patterns or @LIST")
    return SceneList(tuple(scenes), tuple(found.remarks))


class _Found:
    """Scenes as they are found."""

    def __init__(self) -> None:
        self.scenes: list[BatchScene] = []
        self.remarks: list[str] = []

    def add(self, text: str, beside: Path | None = None) -> None:
        """Adds what an argument, or the line of a list in the folder ``beside``, stands for."""
        if is_remote(text) or text.startswith("/vsi"):
            self.scenes.append(scene_of((text,)))
            return
        path = _placed(text, beside)
        if text.startswith("@") and not os.path.exists(path):
            if beside is not None:
                raise UsageError(f"{text}: a list within a list; give both to the command")
            self._add_list(text[1:])
        elif os.path.isdir(path):
            if not self._add_folder(path):
                raise UsageError(
                    f"{path}: is a folder without scenes; for scenes in folders below it give a "
                    f"pattern, such as '{path}/**/*.tif'"
                )
        elif path.suffix.lower() in _ITEMS:
            self.scenes += read_items(path)
        elif not os.path.exists(path) and glob.has_magic(text):
            self._add_pattern(text, beside)
        elif path.suffix.lower() in (".txt", ".lst", ".list") and path.is_file():
            raise UsageError(f"{text}: is a text file; if it lists scenes, write @{text}")
        else:
            # A file that does not exist fails in its turn; the others are mapped.
            self.scenes.append(scene_of((str(path),)))

    def _add_list(self, name: str) -> None:
        for line in _lines(name):
            files = [part.strip() for part in line.split("\t") if part.strip()]
            folder = Path() if name == "-" else Path(name).parent
            if len(files) > 1:
                placed = (f if is_remote(f) else str(_placed(f, folder)) for f in files)
                self.scenes.append(scene_of(tuple(placed)))
            else:
                self.add(files[0], folder)

    def _add_pattern(self, text: str, beside: Path | None) -> None:
        matches = sorted(glob.glob(text, recursive=True))
        if not matches and beside is not None:
            matches = sorted(glob.glob(str(beside / text), recursive=True))
        if not matches:
            raise UsageError(f"{text}: no file has such a name")
        empty = []
        for match in matches:
            if not os.path.isdir(match):
                # Whatever a pattern matches is meant, even a file that is no raster.
                is_items = match.lower().endswith(_ITEMS)
                self.scenes += read_items(Path(match)) if is_items else [scene_of((match,))]
            elif not self._add_folder(Path(match)):
                empty.append(match)
        if len(empty) == len(matches):
            raise UsageError(f"{text}: matches folders without scenes only; give another pattern")

    def _add_folder(self, path: Path) -> bool:
        """Adds the scenes of a folder; False if it holds none."""
        if is_one_scene(path):
            self.scenes.append(scene_of((str(path),)))
            return True
        rasters = rasters_in(path)
        aside = _aside(rasters)
        products = [p for p in path.iterdir() if p.suffix.lower() in _PRODUCTS]
        members = [r for r in rasters if r not in aside]
        members += [str(p) for p in products if not p.name.startswith(".")]
        if aside:
            names = ", ".join(Path(a).name for a in aside[:4]) + (", ..." if aside[4:] else "")
            self.remarks.append(
                f"{path}: left out {names}: named after scenes there, but after no polarisation"
            )
        self.scenes += [scene_of((member,)) for member in sorted(members)]
        return bool(members)


def _aside(rasters: Sequence[str]) -> list[str]:
    """Rasters that belong to others: elevation, angles or masks of a scene in a file per band.

    Their names begin like the scene's, and have no polarisation.
    """
    named = [r for r in rasters if polarisations(Path(r).stem)]
    beginnings = tuple({joined_name(Path(r).stem) for r in named})
    return [r for r in rasters if r not in named and Path(r).stem.startswith(beginnings)]


def _placed(text: str, beside: Path | None) -> Path:
    """A path; one that does not exist is looked for beside the list that names it."""
    path = Path(text)
    if beside is None or path.is_absolute() or os.path.exists(path):
        return path
    other = beside / path
    return other if os.path.exists(other) else path


def _lines(name: str) -> list[str]:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = "is no text file" if isinstance(error, ValueError) else "cannot be read"
        if isinstance(error, FileNotFoundError):
            why = "no such list of scenes"
        raise UsageError(f"{name}: {why}; give a text file with a scene on each line") from None
    if "\0" in text:
        raise UsageError(f"{name}: is no text file; give a text file with a scene on each line")
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _paired(scenes: Sequence[BatchScene], remarks: list[str]) -> list[BatchScene]:
    """The scenes; those whose names differ in the polarisation only become one."""
    groups: dict[tuple[str, str], list[BatchScene]] = {}
    for scene in scenes:
        if (key := _pair_key(scene)) is not None:
            groups.setdefault(key, []).append(scene)
    # Two files of one polarisation are no bands of one scene.
    bands = {
        id(scene): group
        for group in groups.values()
        if 1 < len(group) == len({only_polarisation(s.stem) for s in group})
        for scene in group
    }
    if bands:
        names = " and ".join(
            file_name(display_name(s.files[0])) for s in next(iter(bands.values()))
        )
        remarks.append(f"files that differ in the polarisation are one scene, such as {names}")
    return [
        scene_of(tuple(s.files[0] for s in bands[id(scene)])) if id(scene) in bands else scene
        for scene in scenes
        if id(scene) not in bands or scene is bands[id(scene)][0]
    ]


def _pair_key(scene: BatchScene) -> tuple[str, str] | None:
    """The same for files whose names differ in the polarisation only; None without one."""
    if len(scene.files) != 1 or scene.problem or not only_polarisation(scene.stem):
        return None
    folder, _, name = scene.files[0].replace("\\", "/").rpartition("/")
    return folder, without_polarisations(name)


def _distinct(scenes: Sequence[BatchScene], remarks: list[str]) -> list[BatchScene]:
    seen: dict[tuple[str, ...], BatchScene] = {}
    for scene in scenes:
        key = tuple(f if is_remote(f) else os.path.realpath(f) for f in scene.files) or (scene.id,)
        seen.setdefault(key, scene)
    if len(seen) < len(scenes):
        twice = len(scenes) - len(seen)
        remarks.append(
            f"{how_many(twice, 'scene')} {were(twice)} given twice, and will be mapped once"
        )
    return list(seen.values())
