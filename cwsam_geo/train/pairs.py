"""Scenes and their labels by pattern: a folder of a thousand pairs in two lines."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cwsam_geo.errors import UsageError
from cwsam_geo.io.opening import is_remote

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_LISTED = 4


@dataclass(frozen=True)
class Pair:
    """One scene and its labels.

    Attributes:
        scene: Its file, or files of one band each.
        labels: The labels' file.
        shared: True where other scenes have the same labels' file.
    """

    scene: tuple[str, ...]
    labels: str
    shared: bool = False


def find_pairs(scene: Sequence[str], labels: str, folder: Path, where: str) -> list[Pair]:
    """The pairs that patterns name.

    ``*`` and ``?`` match as in a shell. ``{name}`` matches a part of a file's name and stands for
    the same text in the other paths; there may be several, of any names.

    Args:
        scene: Pattern of the scene's file, or patterns of its single-band files.
        labels: Pattern of the labels' file.
        folder: Where relative paths start.
        where: What names them, for messages.

    Returns:
        The pairs, in the order of their names.

    Raises:
        UsageError: Nothing matches, a scene's other files are missing, or a pattern is unclear.
    """
    first, *others = (_absolute(pattern, folder) for pattern in scene)
    labels = _absolute(labels, folder)
    known = set(_PLACEHOLDER.findall(first))
    for pattern in (*others, labels):
        unknown = set(_PLACEHOLDER.findall(pattern)) - known
        if unknown:
            raise UsageError(
                f"{where}: {{{sorted(unknown)[0]}}} of {pattern} is not in {scene[0]}, so it "
                "stands for nothing"
            )
    for pattern in (first, *others, labels):
        plain = not _PLACEHOLDER.search(pattern) and not _wild(pattern)
        if plain and not _is_there(pattern):
            key = "labels" if pattern == labels else "scene"
            raise UsageError(f"{where}: {pattern}: no such file; check `{key}`")
    found = list(_matches(first))
    if not found:
        raise UsageError(f"{where}: no scene matches {first}")
    pairs, missing = [], []
    for path, texts in found:
        rest = [_files(pattern, texts) for pattern in (*others, labels)]
        lacking = [why for files, why in rest if len(files) != 1]
        if lacking:
            missing.append(f"{path} ({'; '.join(lacking)})")
        else:
            files = [files[0] for files, _ in rest]
            pairs.append(Pair((path, *files[:-1]), files[-1]))
    if missing:
        listed = ", ".join(missing[:_LISTED]) + (", ..." if len(missing) > _LISTED else "")
        raise UsageError(
            f"{where}: {len(missing)} of {len(found)} scenes lack a file, or have several: {listed}"
        )
    shared = len({pair.labels for pair in pairs}) < len(pairs)
    return [Pair(p.scene, p.labels, shared) for p in pairs]


def _absolute(pattern: str, folder: Path) -> str:
    if is_remote(pattern) or pattern.startswith("/vsi"):
        return pattern
    # Without resolving links: file names tell polarisations.
    return os.path.normpath(folder / Path(pattern).expanduser())


def _matches(pattern: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Files of a pattern, with the text of each placeholder."""
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
    """The files of a pattern with its placeholders filled, and what to say where it is not one."""
    plain = _PLACEHOLDER.sub(lambda m: texts[m[1]], pattern)
    if not _wild(pattern):
        return [plain] if _is_there(plain) else [], f"no {plain}"
    filled = _PLACEHOLDER.sub(lambda m: glob.escape(texts[m[1]]), _shell(pattern, keep=True))
    found = glob.glob(filled)
    return found, f"{len(found)} files match {plain}" if found else f"nothing matches {plain}"


def _is_there(path: str) -> bool:
    # Only GDAL knows what lies at an address or inside an archive.
    return is_remote(path) or path.startswith("/vsi") or os.path.exists(path)


def _wild(pattern: str) -> bool:
    return not is_remote(pattern) and any(c in pattern for c in "*?")


def _shell(pattern: str, keep: bool = False) -> str:
    """The pattern for ``glob``: brackets are brackets, placeholders match any text."""
    escaped = pattern.replace("[", "[[]")
    return escaped if keep else _PLACEHOLDER.sub("*", escaped)


def _expression(pattern: str) -> str:
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
