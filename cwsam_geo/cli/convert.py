"""``cwsam-geo convert``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from cwsam_geo.cli.options import json_option, output_option, overwrite_option

if TYPE_CHECKING:
    from cwsam_geo.model.upstream.convert import Conversion


@click.command("convert")
@click.argument("checkpoint", metavar="IN")
@output_option("Model bundle to write (.safetensors).")
@click.option(
    "--legend",
    required=True,
    metavar="FILE",
    help="YAML file whose `classes:` lists {code, name, color} in the order of the channels.",
)
@click.option(
    "--tile-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Side of a model tile in pixels.  [default: the checkpoint's]",
)
@click.option(
    "--name", help="Model name to store in the bundle.  [default: the checkpoint's file name]"
)
@click.option("-v", "--verbose", is_flag=True, help="List every kept, dropped or new tensor.")
@overwrite_option
@json_option
def command(
    checkpoint: str,
    output: str,
    legend: str,
    tile_size: int | None,
    name: str | None,
    verbose: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Turn an upstream SAM or CWSAM checkpoint into a model bundle.

    IN is a state dict saved by the CWSAM authors' code, or a checkpoint of Segment Anything such as
    sam_vit_b_01ec64.pth. A bundle made from Segment Anything is a base for fine-tuning: its
    adapters are new and untrained, so it cannot map land cover yet.
    """
    from cwsam_geo.atomic import check_apart, check_output
    from cwsam_geo.io.legend_file import read_legend
    from cwsam_geo.model.upstream.convert import ConvertOptions, convert

    # Fail before the checkpoint is read, which takes a while.
    check_output(output, overwrite)
    check_apart([output], {checkpoint: "the checkpoint", legend: "the legend"})
    options = ConvertOptions(tile_size=tile_size, name=name)
    conversion = convert(checkpoint, read_legend(legend), options)
    conversion.bundle.save(output, overwrite)
    if as_json:
        click.echo(json.dumps(_event(conversion, output), ensure_ascii=False))
        return
    for line in _lines(conversion, output, verbose):
        click.echo(line)


def _event(conversion: Conversion, output: str) -> dict[str, object]:
    bundle = conversion.bundle
    return {
        "event": "converted",
        "output": output,
        "source": conversion.source,
        "backbone": bundle.architecture.backbone.name,
        "tile_size": bundle.architecture.tile_size,
        "classes": bundle.legend.names,
        "trained": bundle.provenance["trained"],
        "kept": dict(conversion.kept),
        "dropped": {reason: list(keys) for reason, keys in conversion.dropped.items()},
        "fresh": list(conversion.fresh),
    }


def _lines(conversion: Conversion, output: str, verbose: bool) -> list[str]:
    architecture = conversion.bundle.architecture
    what = "CWSAM" if conversion.source == "cwsam" else "SAM"
    lines = [
        f"{output}: {what}, backbone {architecture.backbone.name}, "
        f"{architecture.num_classes} classes, tiles of {architecture.tile_size} px",
        f"kept     {len(conversion.kept):4}",
    ]
    if verbose:
        lines += [
            f"         {old_name} -> {new_name}" for old_name, new_name in conversion.kept.items()
        ]
    for reason, keys in conversion.dropped.items():
        lines.append(f"dropped  {len(keys):4}  {reason}")
        if verbose:
            lines += [f"         {key}" for key in keys]
    if conversion.fresh:
        lines.append(f"fresh    {len(conversion.fresh):4}  adapters, prompt and class head")
        if verbose:
            lines += [f"         {name}" for name in conversion.fresh]
        lines.append("The model is not trained yet: fine-tune it before you map with it.")
    return lines
