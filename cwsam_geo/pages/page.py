"""Fills a template: the page's style, script and security policy."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from cwsam_geo._version import __version__
from cwsam_geo.pages import charts

_ASSETS = Path(__file__).with_name("assets")


def render(template: str, title: str, values: Mapping[str, Any], with_map: bool = False) -> str:
    """A report as HTML.

    The page may not load anything: its security policy allows only data inside the page, and only
    the script that it is made with. Text from files is escaped by the template; should a text ever
    escape that, a browser would not run it.

    Args:
        template: Name of the report's template, ``report.html``.
        title: Title of the page, as plain text.
        values: Values of the template.
        with_map: Whether the template has a map, which needs the script.
    """
    script = _script() if with_map else ""
    frame = {
        "title": title,
        "version": __version__,
        "date": datetime.now(timezone.utc).strftime("%d %B %Y, %H:%M UTC"),
        # Both come from this package, not from files of a user.
        "style": Markup(_style(with_map)),
        "script": Markup(script),
        "policy": _policy(script),
        "leaflet_licence": _asset("leaflet/LICENSE"),
    }
    return _environment().get_template(template).render({"lead": "", **values, **frame})


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "histogram": charts.histogram,
        "curves": charts.curves,
        "reliability_diagram": charts.reliability_diagram,
        "bin_counts": charts.bin_counts,
        "curve_rows": _curve_rows,
        "percent": percent,
    }
    return environment


def percent(value: float | None) -> str:
    """A share of 0 to 1 in per cent; ``-`` if it is undefined."""
    return "-" if value is None else f"{100 * value:.1f} %"


def _curve_rows(curve: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            f"{100 * b['from']:.0f} to {100 * b['to']:.0f} %",
            f"{b['count']:,}",
            percent(b["accuracy"]),
            percent(b["mean_confidence"]),
        ]
        for b in curve["bins"]
        if b["count"]
    ]


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = f"'sha256-{digest}'" if script else "'none'"
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _script() -> str:
    # Developer tools would look for the map of the source.
    leaflet = re.sub(r"\n?//# sourceMappingURL=\S+", "", _asset("leaflet/leaflet.js"))
    return f"{leaflet}\n{_asset('map.js')}"


def _style(with_map: bool) -> str:
    if not with_map:
        return _asset("page.css")
    # Icons of controls that no report has, and a rule for Internet Explorer 8.
    leaflet = re.sub(r"[\w-]+:\s*url\([^)]*\);?", "", _asset("leaflet/leaflet.css"))
    return f"{leaflet}\n{_asset('page.css')}"


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
