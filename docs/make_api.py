"""Makes ``docs/api.md`` from the signatures and docstrings of what the package exports.

python docs/make_api.py            writes the page
python docs/make_api.py --check    fails when the page is not current

Only the names in ``cwsam_geo.__all__`` are described. The docstrings are in Google style.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "api.md"

HEAD = """\
# Python interface

`docs/make_api.py` makes this page from the docstrings; do not edit it by hand. The package exports
all names except those under *Results*: `from cwsam_geo import predict_scene`.
"""

SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises")

MAX_LINE = 88
"""Longest line of a signature; longer ones have one parameter per line."""


def page() -> str:
    """The whole page, as Markdown."""
    package = importlib.import_module("cwsam_geo")
    exported = {n: getattr(package, n) for n in package.__all__ if not n.startswith("_")}
    errors = {n: v for n, v in exported.items() if is_error(v)}
    functions = {n: v for n, v in exported.items() if not inspect.isclass(v)}
    classes = {n: v for n, v in exported.items() if n not in errors and n not in functions}
    # The root of the errors first, then its children by name.
    errors = dict(sorted(errors.items(), key=lambda item: (len(item[1].__mro__), item[0])))
    groups = {
        "Functions": functions,
        "Options and values": classes,
        "Results": results(functions.values(), exported),
        "Errors": errors,
    }
    parts = [HEAD]
    for title, members in groups.items():
        if members:
            parts.append(f"## {title}\n")
            parts.extend(
                f"- [`{name}`](#{name.lower()}): {summary(members[name])}" for name in members
            )
            parts.append("")
            parts.extend(part for name, value in members.items() for part in described(name, value))
    return "\n".join(parts).rstrip() + "\n"


def results(functions: Iterable[Any], exported: Mapping[str, Any]) -> dict[str, Any]:
    """The package's classes that functions return and that are not exported."""
    found = {}
    for function in functions:
        name = str(inspect.signature(function).return_annotation)
        value = getattr(sys.modules[function.__module__], name, None)
        if inspect.isclass(value) and name not in exported:
            found[name] = value
    return found


def is_error(value: Any) -> bool:
    """Whether an exported value is an exception class."""
    return inspect.isclass(value) and issubclass(value, BaseException)


def summary(value: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return markdown(docstring(value).split("\n\n")[0])


def docstring(value: Any) -> str:
    """The docstring.

    Raises:
        SystemExit: The value has none.
    """
    text = inspect.getdoc(value)
    if not text:
        sys.exit(f"{value!r}: is exported, but has no docstring")
    return text


def described(name: str, value: Any) -> Iterator[str]:
    """One exported name, in lines of Markdown."""
    yield f"### {name}\n"
    if is_error(value):
        parent = value.__bases__[0].__name__
        yield f"```python\nclass {name}({parent})\n```\n"
    elif inspect.isclass(value):
        yield f"```python\nclass {name}\n```\n"
    else:
        yield f"```python\n{signature(name, value)}\n```\n"
    yield from sections(value)
    if inspect.isclass(value) and not is_error(value):
        yield from members(value)


def sections(value: Any, level: str = "") -> Iterator[str]:
    """The docstring, section by section; dataclasses list all their fields."""
    text, found = split_docstring(docstring(value))
    yield f"{level}{markdown(text)}\n"
    if dataclasses.is_dataclass(value):
        found["Attributes"] = fields(value, found.get("Attributes", ""))
    for title in SECTIONS:
        if not found.get(title):
            continue
        yield f"{level}*{title}*\n"
        body = found[title]
        if title in ("Returns", "Yields"):
            yield f"{level}{markdown(body)}\n"
        elif isinstance(body, list):
            yield from (f"{level}- {line}" for line in body)
            yield ""
        else:
            yield from (f"{level}- `{n}`: {markdown(t)}" for n, t in entries(body).items())
            yield ""


def split_docstring(text: str) -> tuple[str, dict[str, Any]]:
    """The text before the first section, and the text of each section without its indentation."""
    pattern = rf"^({'|'.join(SECTIONS)}):\n"
    before, *rest = re.split(pattern, text, flags=re.MULTILINE)
    bodies = [inspect.cleandoc("\n" + body) for body in rest[1::2]]
    return before.strip(), dict(zip(rest[::2], bodies, strict=True))


def entries(body: str) -> dict[str, str]:
    """The entries ``name: text`` of a section; their further lines are indented."""
    found = re.split(r"^(\w[\w., *]*):\s", body, flags=re.MULTILINE)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def fields(value: Any, documented: str) -> list[str]:
    """One line per field of a dataclass: type, default, and its entry in the docstring if any."""
    texts = entries(documented)
    lines = []
    for field in dataclasses.fields(value):
        if not field.init or field.name.startswith("_"):
            continue
        note = f"`{annotation(field.type, sys.modules[value.__module__])}`"
        if field.default is not dataclasses.MISSING:
            note += f", default `{default(field.default)}`"
        elif field.default_factory is not dataclasses.MISSING:
            note += f", default `{default(field.default_factory())}`"
        text = f": {markdown(texts[field.name])}" if field.name in texts else ""
        lines.append(f"`{field.name}` ({note}){text}")
    return lines


def members(value: Any) -> Iterator[str]:
    """The public methods and properties that a class defines itself."""
    for name, member in vars(value).items():
        if name.startswith("_"):
            continue
        function = getattr(member, "__func__", member)
        if isinstance(member, property):
            yield f"#### {value.__name__}.{name}\n"
            yield from sections(member)
        elif inspect.isfunction(function):
            yield f"#### {value.__name__}.{name}\n"
            yield f"```python\n{signature(name, function, bound=True)}\n```\n"
            yield from sections(function)


def signature(name: str, function: Any, bound: bool = False) -> str:
    """``name(parameters) -> type`` on one line if it fits, without ``self`` of a method."""
    module = sys.modules[function.__module__]
    parameters = list(inspect.signature(function).parameters.values())
    if bound and parameters and parameters[0].name in ("self", "cls"):
        del parameters[0]
    texts, star = [], False
    for p in parameters:
        if p.kind is p.KEYWORD_ONLY and not star:
            texts.append("*")
        star |= p.kind in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)
        stars = "*" * (p.kind is p.VAR_POSITIONAL) + "**" * (p.kind is p.VAR_KEYWORD)
        text = stars + p.name
        if p.annotation is not p.empty:
            text += f": {annotation(p.annotation, module)}"
        if p.default is not p.empty:
            text += f" = {default(p.default)}"
        texts.append(text)
    returns = inspect.signature(function).return_annotation
    end = "" if returns is inspect.Signature.empty else f" -> {annotation(returns, module)}"
    line = f"{name}({', '.join(texts)}){end}"
    if len(line) <= MAX_LINE:
        return line
    return "\n".join([f"{name}(", *(f"    {text}," for text in texts), f"){end}"])


def annotation(text: Any, module: Any) -> str:
    """A type as the source has it, with the package's own type aliases written out."""
    source = text if isinstance(text, str) else inspect.formatannotation(text)
    return ast.unparse(_Aliases(module).visit(ast.parse(source, mode="eval")))


class _Aliases(ast.NodeTransformer):
    """Replaces the names of type aliases by what they stand for in a module's source."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Looks up one name."""
        return alias(self.module, node.id) or node


def alias(module: Any, name: str) -> ast.expr | None:
    """The type that a name stands for, if it is a type alias of the package; else None."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cwsam_geo"):
            for imported in node.names:
                if (imported.asname or imported.name) == name:
                    return alias(importlib.import_module(str(node.module)), imported.name)
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == name for target in node.targets
        ):
            is_type = isinstance(node.value, ast.Subscript) or (
                isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.BitOr)
            )
            return _Aliases(module).visit(node.value) if is_type else None
    return None


def default(value: Any) -> str:
    """A default as text that is the same in every run: functions have addresses in theirs."""
    return "..." if inspect.isroutine(value) else repr(value)


def markdown(text: str) -> str:
    """Text of a docstring: paragraphs on one line each, ``code`` as Markdown has it."""
    paragraphs = [" ".join(p.split()) for p in text.split("\n\n")]
    return re.sub(r"``([^`]+)``", r"`\1`", "\n\n".join(p for p in paragraphs if p))


def main() -> None:
    """Writes or checks the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="fail when the page is not current")
    check = parser.parse_args().check
    # This checkout, whichever version is installed.
    sys.path.insert(0, str(ROOT))
    text = page()
    if not check:
        PAGE.write_text(text, encoding="utf-8", newline="\n")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        sys.exit("docs/api.md is not current; run: python docs/make_api.py")


if __name__ == "__main__":
    main()
