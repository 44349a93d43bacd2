"""Messages in the words of the place where the user is: region.yaml or the command line.

Modules that read scenes and vector files name the options of the command line, because most
commands have them. ``finetune`` reads those settings from region.yaml, where they are keys.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from cwsam_geo.errors import CwsamGeoError

OPTIONS = "options"
"""Label of a region that the options of ``finetune`` describe, without a region.yaml."""

_KEYS = {
    "--units": "units",
    "--nodata": "nodata",
    "--scale": "scale",
    "--offset": "offset",
    "--bidx": "bands",
    "-b": "bands",
    "--column": "column",
    "--layer": "layer",
    "--band": "label_band",
    "--map": "map",
}
"""Keys of a scene in region.yaml, by the option of other commands that says the same."""

# An option with its value, if that is a literal and not the next word of the sentence.
_LITERAL = r"db|power|amplitude|none|nan|auto|[-+]?[0-9](?:[-+.0-9e,]*[0-9])?"
_OPTION = re.compile(rf"(?<![-\w])({'|'.join(_KEYS)})(?![-\w])(?: ({_LITERAL})(?!\w))?")
_KEY = re.compile(rf"`({'|'.join([*_KEYS.values(), 'split'])}):[^`]*`")


def in_words_of(text: str, label: str) -> str:
    """A message with options named as the user gives them.

    Args:
        text: A message that may name options of other commands.
        label: ``RegionConfig.label``: a region file's name, or ``OPTIONS``.
    """
    if label == OPTIONS:
        # ``finetune`` has an option for the column, but none for the other keys of a scene.
        text = re.sub(_OPTION, lambda m: m[0] if m[1] == "--column" else _as_key(m), text)
        keys = list(dict.fromkeys(f"`{m[1]}:`" for m in _KEY.finditer(text)))
        if not keys:
            return text
        return (
            f"{text} ({' and '.join(keys)}: {'a key' if len(keys) == 1 else 'keys'} of REGION.yaml)"
        )
    return _OPTION.sub(_as_key, text)


def _as_key(match: re.Match[str]) -> str:
    key, value = _KEYS[match[1]], match[2]
    if value and key == "bands":
        value = f"[{value.replace(',', ', ')}]"
    return f"`{key}: {value}`" if value else f"`{key}:`"


@contextlib.contextmanager
def errors_in_words_of(label: str) -> Iterator[None]:
    """Rewrites the messages of errors that leave the block; see ``in_words_of``."""
    try:
        yield
    except CwsamGeoError as error:
        text = in_words_of(str(error), label)
        if text == str(error):
            raise
        raise type(error)(text) from None
