"""Finding scenes and their labels by file name patterns."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cwsam_geo.core.counting import how_many
from cwsam_geo.errors import UsageError
from cwsam_geo.io.raster_file import is_remote

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# Scenes that an error message lists at most.
_LISTED = 4


_Rest = list[tuple[list[str], str]]
"""Files that belong to a scene, for each further pattern, and what is wrong unless it is one."""


@dataclass(frozen=True)
class Pair:
    """One scene and its labels.

    Attributes:
        scene: File of the scene, or its files of one band each.
        shared: The labels are those of another scene too.
    """

    scene: tuple[str, ...]
    labels: str
    shared: bool = False


def find_pairs(scene: Sequence[str], labels: str, folder: Path, where: str) -> list[Pair]:
    """Finds all pairs of files that match patterns.

    ``*`` and ``?`` match as in a shell. A placeholder such as ``{name}`` matches a part of a file
    name in the scene's first pattern and stands for the same text in the other patterns. There
    may be several placeholders with any names.

    Args:
        scene: Pattern of the scene's file, or patterns of its single-band files.
        labels: Pattern of the labels' file.
        folder: Folder to which relative patterns refer.
        where: Name of the entry in messages.

    Returns:
        The pairs, sorted by the path of the scene.

    Raises:
        UsageError: No scene matches, another file of a scene is missing or ambiguous, or a
            placeholder is not in the scene's first pattern.
    """
    first, *others = (_absolute(pattern, folder) for pattern in scene)
    labels = _absolute(labels, folder)
    placeholders = set(_PLACEHOLDER.findall(first))
    for pattern in (*others, labels):
        unknown = set(_PLACEHOLDER.findall(pattern)) - placeholders
        if unknown:
            raise UsageError(
                f"{where}: {{{sorted(unknown)[0]}}} of {pattern} is not in {scene[0]}, so it "
                "stands for nothing"
            )
    # A path without wildcards gets a clearer message than a pattern without matches.
    for pattern in (first, *others, labels):
        plain = not _PLACEHOLDER.search(pattern) and not _wild(pattern)
        if plain and not _is_there(pattern):
            key = "labels" if pattern == labels else "scene"
            raise UsageError(f"{where}: {pattern}: no such file; check `{key}`")
    matches = {
        path: [_files(pattern, texts) for pattern in (*others, labels)]
        for path, texts in _matches(first)
    }
    if not matches:
        raise UsageError(f"{where}: no scene matches {first}")
    scenes = _scenes(matches)
    if not scenes:
        raise UsageError(
            f"{where}: {first} finds no scene, only files that are labels or further bands of one"
        )
    pairs, incomplete = [], []
    for path, rest in scenes.items():
        problems = [why for files, why in rest if len(files) != 1]
        if problems:
            incomplete.append(f"{path} ({'; '.join(problems)})")
        else:
            files = [files[0] for files, _ in rest]
            pairs.append(Pair((path, *files[:-1]), files[-1]))
    if incomplete:
        listed = ", ".join(incomplete[:_LISTED]) + (", ..." if len(incomplete) > _LISTED else "")
        raise UsageError(
            f"{where}: {len(incomplete)} of {how_many(len(scenes), 'scene')} without a file, or "
            f"with several: {listed}"
        )
    shared = len({pair.labels for pair in pairs}) < len(pairs)
    return [Pair(p.scene, p.labels, shared) for p in pairs]


def _scenes(matches: Mapping[str, _Rest]) -> dict[str, _Rest]:
    """The matches without the labels and further bands of others, which ``{name}.tif`` matches too.

    Next to ``{name}.tif``, ``{name}_labels.tif`` matches the first pattern with another ``name``.
    """
    parts = {file for rest in matches.values() for files, _ in rest for file in files}
    return {path: rest for path, rest in matches.items() if path not in parts}


def _absolute(pattern: str, folder: Path) -> str:
    if is_remote(pattern) or pattern.startswith("/vsi"):
        return pattern
    # Links are not resolved: the name of the link may be the one that tells the polarisation.
    return os.path.normpath(folder / Path(pattern).expanduser())


def _matches(pattern: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Files that match a pattern, each with the texts of its placeholders."""
    names = _PLACEHOLDER.findall(pattern)
    if not names and not _wild(pattern):
        yield pattern, {}
        return
    expression = re.compile(_expression(pattern))
    for path in sorted(glob.glob(_shell(pattern))):
        match = expression.fullmatch(path)
        if match:
            yield path, match.groupdict()


def _files(pattern: str, texts: Mapping[str, str]) -> tuple[list[str], str]:
    """Files that match a pattern with these placeholders, and what is wrong unless it is one."""
    plain = _PLACEHOLDER.sub(lambda m: texts[m[1]], pattern)
    if not _wild(pattern):
        return [plain] if _is_there(plain) else [], f"no {plain}"
    filled = _PLACEHOLDER.sub(lambda m: glob.escape(texts[m[1]]), _shell(pattern, keep=True))
    files = glob.glob(filled)
    return files, f"{len(files)} files match {plain}" if files else f"nothing matches {plain}"


def _is_there(path: str) -> bool:
    # Only GDAL can look at a URL or inside an archive: such paths are checked when opened.
    return is_remote(path) or path.startswith("/vsi") or os.path.exists(path)


def _wild(pattern: str) -> bool:
    return not is_remote(pattern) and any(c in pattern for c in "*?")


def _shell(pattern: str, keep: bool = False) -> str:
    """The pattern for ``glob``: brackets are literal, and placeholders match any text."""
    escaped = pattern.replace("[", "[[]")
    return escaped if keep else _PLACEHOLDER.sub("*", escaped)


def _expression(pattern: str) -> str:
    """The pattern as a regular expression with a named group for each placeholder."""
    parts, seen = [], set()
    for token in re.split(r"(\{\w+\}|\*\*|\*|\?)", pattern):
        name = _PLACEHOLDER.fullmatch(token)
        if name:
            parts.append(f"(?P={name[1]})" if name[1] in seen else f"(?P<{name[1]}>[^/\\\\]+)")
            seen.add(name[1])
        elif token in ("*", "**", "?"):
            parts.append({"*": r"[^/\\]*", "**": ".*", "?": r"[^/\\]"}[token])
        else:
            parts.append(re.escape(token))
    return "".join(parts)
