"""What a report's page holds, taken apart again."""

import base64
import json
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

CHUNK = 256


class Page(HTMLParser):
    """A page's text, scripts and what it would fetch; refuses tags that are not closed."""

    VOID = ("meta", "br", "input", "img", "link", "hr")

    def __init__(self, path):
        super().__init__()
        self.source = Path(path).read_text(encoding="utf-8")
        self.texts, self.fetched, self.stack, self.scripts, self.tags = [], [], [], [], []
        self.policy = self.style = ""
        self.feed(self.source)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append((tag, values))
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]
        self.fetched += [
            v for k, v in attrs if k in ("src", "href") and not v.startswith(("data:", "#"))
        ]
        if tag in ("link", "iframe", "object", "embed"):
            self.fetched.append(tag)
        if tag == "script":
            self.scripts.append((values, ""))
        if tag not in self.VOID and tag not in ("rect", "line", "polyline", "circle", "path"):
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        if self.stack and self.stack[-1] == "script":
            values, text = self.scripts.pop()
            self.scripts.append((values, text + data))
        elif self.stack and self.stack[-1] == "style":
            self.style = data
        elif self.stack and data.strip():
            self.texts.append(data)

    @property
    def text(self):
        """The words of the page."""
        return " ".join(" ".join(self.texts).split())

    @property
    def map(self):
        """What the page's script gets."""
        return json.loads(next(t for v, t in self.scripts if v.get("id") == "map-data"))

    def layer(self, name):
        """A layer of the map by its id."""
        return next(layer for layer in self.map["layers"] if layer["id"] == name)


def embedded(layer, level=0):
    """The array of a level of a layer, uint8, as the browser decodes it."""
    level = layer["levels"][level]
    array = np.full((level["height"], level["width"]), layer["nodata"], np.uint8)
    for i, row in enumerate(level["chunks"]):
        for j, chunk in enumerate(row):
            part = array[i * CHUNK : (i + 1) * CHUNK, j * CHUNK : (j + 1) * CHUNK]
            if isinstance(chunk, int):
                part[:] = chunk
            elif chunk is not None:
                values = np.frombuffer(zlib.decompress(base64.b64decode(chunk)), np.uint8)
                part[:] = values.reshape(part.shape)
    return array


def names_of(layer):
    """Names of the classes of a layer at each pixel; empty where there is none."""
    names = dict.fromkeys(range(256), "") | {code: name for code, name, _ in layer["entries"]}
    return np.vectorize(names.get)(embedded(layer))
