"""``cwsam-geo models``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cwsam_geo.cli.options import json_option, overwrite_option, quiet_option

if TYPE_CHECKING:
    from cwsam_geo.model.upstream.download import Progress

_PROGRESS_STEPS = 100  # progress events of a download with --json: one per cent each


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
        complete = [p for p in candidates if p.is_file() and p.stat().st_size == checkpoint.size]
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
    from cwsam_geo.model.store import checkout_weights, user_weights
    from cwsam_geo.model.upstream.download import download
    from cwsam_geo.model.upstream.published import find_checkpoint

    checkpoint = find_checkpoint(name)
    target = Path(folder) if folder else checkout_weights() or user_weights()
    with _Reporter(as_json, quiet) as progress:
        path = download(checkpoint, target, overwrite=overwrite, on_progress=progress)
    if as_json:
        click.echo(json.dumps({"event": "done", "path": str(path)}))
    elif not quiet:
        click.echo(f"{path}: complete, size and sha256 as published")


class _Reporter:
    """Prints the progress of a download: a bar on stderr, or NDJSON on stdout."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self._as_json, self._quiet = as_json, quiet
        self._bar: Any = None
        self._step = -1

    def __enter__(self) -> Progress:
        return self._tell

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _tell(self, present: int, size: int) -> None:
        step = present * _PROGRESS_STEPS // size
        if self._as_json and step != self._step:
            click.echo(json.dumps({"event": "progress", "bytes": present, "total": size}))
        elif not self._as_json and not self._quiet:
            if self._bar is None:
                from tqdm import tqdm

                self._bar = tqdm(total=size, unit="B", unit_scale=True, dynamic_ncols=True)
            # The count may decrease: a server without range requests starts the file again.
            self._bar.n = present
            self._bar.refresh() if present == size else self._bar.update(0)
        self._step = step
