"""``cwsam-geo models``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import click

from cwsam_geo.cli.options import json_option, overwrite_option, quiet_option
from cwsam_geo.cli.reporting import Reporter

_PROGRESS_STEPS = 100  # progress events of a download: one per cent each


@click.group("models")
def command() -> None:
    """List the available models, and download SAM's checkpoints."""


@command.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """List the installed model bundles, and SAM's checkpoints."""
    for entry in [*_bundles(), *_checkpoints()]:
        if as_json:
            click.echo(json.dumps(entry, ensure_ascii=False))
            continue
        where = entry["path"] or f"cwsam-geo models download {entry['name']}"
        click.echo(f"{entry['name']:16} {entry['what']}\n{'':16} {where}")


def _bundles() -> list[dict[str, Any]]:
    from cwsam_geo.errors import ModelError
    from cwsam_geo.model.bundles.bundle import read_header
    from cwsam_geo.model.store import known_models

    entries = []
    for name, path in known_models().items():
        entry: dict[str, Any] = {"event": "model", "name": name, "path": str(path)}
        try:
            header = read_header(path)
        except ModelError as error:
            # List a damaged bundle too, so that the user learns of it.
            entries.append({**entry, "kind": None, "what": f"unreadable: {error}"})
            continue
        backbone = header.architecture.backbone.name
        trained = "" if header.provenance["trained"] else ", not trained"
        classes = ", ".join(header.legend.names)
        what = f"{header.kind} model, {backbone}{trained}: {classes}"
        entries.append({**entry, "kind": header.kind, "what": what})
    return entries


def _checkpoints() -> list[dict[str, Any]]:
    from cwsam_geo.model.store import weight_folders
    from cwsam_geo.model.upstream.published import CHECKPOINTS

    entries = []
    for checkpoint in CHECKPOINTS.values():
        # Check the size only: hashing gigabytes takes too long complete, and download does it.
        candidates = [folder / checkpoint.file_name for folder in weight_folders()]
        complete = [
            p for p in candidates if os.path.isfile(p) and p.stat().st_size == checkpoint.size
        ]
        entries.append(
            {
                "event": "checkpoint",
                "name": checkpoint.name,
                "path": str(complete[0]) if complete else None,
                "kind": "checkpoint",
                "what": "SAM's checkpoint, a base for fine-tuning, "
                f"{checkpoint.size / 1e6:.0f} MB, Apache-2.0",
                "url": checkpoint.url,
                "size": checkpoint.size,
                "sha256": checkpoint.sha256,
            }
        )
    return entries


@command.command("download")
@click.argument("name")
@click.option(
    "--to",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Folder to download to.  [default: weights/ of a checkout, else the user's cache]",
)
@overwrite_option
@json_option
@quiet_option
def download_model(
    name: str, folder: str | None, overwrite: bool, as_json: bool, quiet: bool
) -> None:
    """Download a checkpoint of SAM: sam_vit_b, sam_vit_l or sam_vit_h.

    Size and SHA-256 are checked. An interrupted download resumes where it stopped.
    """
    from cwsam_geo.errors import UsageError
    from cwsam_geo.model.store import checkout_weights, user_weights
    from cwsam_geo.model.upstream.download import download
    from cwsam_geo.model.upstream.published import find_checkpoint

    checkpoint = find_checkpoint(name)
    target = Path(folder) if folder else checkout_weights() or user_weights()
    if target is None:
        raise UsageError("you have no home folder to download to; choose a folder with --to")
    with DownloadReporter(as_json, quiet) as report:
        path = download(checkpoint, target, overwrite=overwrite, on_progress=report.downloaded)
        report({"event": "done", "path": str(path)})


class DownloadReporter(Reporter):
    """Prints the progress of a download."""

    unit = "B"
    bar_options: ClassVar[Mapping[str, Any]] = {"unit_scale": True}

    def __init__(self, as_json: bool, quiet: bool) -> None:
        super().__init__(as_json, quiet)
        self._step = -1

    def downloaded(self, present: int, size: int) -> None:
        """Reports the bytes that are present, at most once per ``_PROGRESS_STEPS``-th of them."""
        step = present * _PROGRESS_STEPS // size
        if step != self._step:
            self({"event": "progress", "bytes": present, "total": size})
        self._step = step

    def on_progress(self, event: Mapping[str, Any]) -> None:
        """Moves the bar, which counts bytes."""
        self.advance(event["bytes"], event["total"])

    def on_done(self, event: Mapping[str, Any]) -> None:
        """Prints where the checkpoint is."""
        self.close_bar()
        click.echo(f"{event['path']}: complete, size and sha256 as published")
