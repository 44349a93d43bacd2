"""Prepares a region's data: reads labels, splits the scenes, measures inputs, makes tiles."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from cwsam_geo.core.counting import how_many, were
from cwsam_geo.core.grid import Window
from cwsam_geo.core.preprocess import PreprocessSpec
from cwsam_geo.core.temperatures import band_sets
from cwsam_geo.core.windows import windows_over
from cwsam_geo.errors import UsageError
from cwsam_geo.finetuning.data.label_check import check_labels
from cwsam_geo.finetuning.data.labels import LabelRaster, ScannedLabels, scan_labels, unused_names
from cwsam_geo.finetuning.data.preprocessing import SpecScene, empty_spec, fitted_spec
from cwsam_geo.finetuning.data.scene_files import SceneFile, SceneReader, TileScene
from cwsam_geo.finetuning.data.tiles import FixedTiles, TrainingLabels, TrainingTiles
from cwsam_geo.finetuning.region.config import LabelledScene, RegionConfig
from cwsam_geo.finetuning.region.pairs import Pair
from cwsam_geo.finetuning.split.blocks import SpatialSplit, SplitScene, draw_split
from cwsam_geo.finetuning.split.roles import TEST, TRAIN, VAL, SceneRoles
from cwsam_geo.finetuning.targets.class_sets import (
    CELL,
    CellCounts,
    ClassSets,
    count_cells,
    joined,
    partial_rows,
)
from cwsam_geo.finetuning.training.calibration import BandTiles
from cwsam_geo.io.geolocation import Geolocation, locate
from cwsam_geo.scene.reading import plan_reading
from cwsam_geo.scene.source import open_source

Tell = Callable[[str], None]
"""Called with a sentence for the user."""

# Pixels of a window, about, in which stored labels are read; side of their blocks, see labels.py.
_WINDOW_PIXELS = 1 << 20
_BLOCK = 256
# Scenes and names that a remark lists before it writes "...".
_LISTED = 5

ByRole = dict[int, CellCounts]
"""Labels of a scene, counted for each role (training, validation, test) of the pixels."""


@dataclass(frozen=True)
class RegionData:
    """A region's data, ready for training.

    Attributes:
        training: Tiles to train on.
        validation: Tiles to validate on.
        test: Tiles to test on, or None if no pixel is for the test.
        sets: Which classes each label row allows, shape (S, K), bool.
        ignore: Channels that do not count in scores.
        class_pixels: Training pixels of each class, shape (K,), int64.
        spec: The model's preprocessing, with statistics of the training pixels.
        split: The role of each pixel of each scene.
        locations: Georeferencing of the scenes, in the order of ``split.names``.
        pairs: Files of the scenes and their labels, in the same order.
    """

    training: TrainingTiles
    validation: FixedTiles
    test: FixedTiles | None
    sets: NDArray[np.bool_]
    ignore: tuple[int, ...]
    class_pixels: NDArray[np.int64]
    spec: PreprocessSpec
    split: SpatialSplit
    locations: tuple[Geolocation, ...]
    pairs: tuple[Pair, ...]

    def by_bands(self, tiles: FixedTiles, others: bool) -> list[BandTiles]:
        """The tiles for each set of bands that a scene may have; sets without tiles are left out.

        Args:
            tiles: Those of validation or test.
            others: Whether a set also has the tiles of scenes with more bands, which are then not
                shown to the model.
        """
        chosen = [
            (bands, tiles.with_bands(bands, others))
            for bands in band_sets(self.spec.bands, self.spec.optional_bands)
        ]
        return [BandTiles(bands, part, part.labelled) for bands, part in chosen if len(part)]

    @property
    def partial(self) -> list[list[int]]:
        """Channels of each partial label, which allows several classes but not all."""
        return [np.flatnonzero(row).tolist() for row in self.sets[partial_rows(self.sets)]]


@contextlib.contextmanager
def region_data(
    config: RegionConfig, base: PreprocessSpec | None = None, tell: Tell = lambda _: None
) -> Iterator[RegionData]:
    """Reads all labels once, splits the scenes into roles and measures their values.

    The labels are stored, on the scenes' grids, in a temporary folder until the ``with`` block
    ends.

    Args:
        config: The region's configuration.
        base: Preprocessing of a trained model to keep, or None to derive it from the scenes.
        tell: Called with each remark for the user.

    Raises:
        CwsamGeoError: A scene or its labels cannot be used; the message says why.
    """
    sets = ClassSets.of(config.legend, [scene.map for scene in config.scenes])
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cwsam-geo-")))
        spec = replace(base or _open_spec(config), tile_size=config.tiles.tile_size)
        scanned = _scan(config, spec, sets, folder, tell)
        locations = tuple(locate(s.file.grid, s.file.label) for s in scanned)
        split = draw_split(
            [
                SplitScene(location, s.cells, s.scene.split)
                for location, s in zip(locations, scanned, strict=True)
            ],
            sets.table,
            config.blocks,
            (config.tiles.tile_size, config.tiles.shared),
            config.recipe.seed,
        )
        for remark in split.remarks:
            tell(remark)
        pairs = list(zip(scanned, split.scenes, strict=True))
        roles = [_by_role(scene, regions) for scene, regions in pairs]
        labels = TrainingLabels(
            cells=tuple(cells[TRAIN] for cells in roles),
            sets=sets.table,
            usable=tuple(_usable(s.cells.shape, regions) for s, regions in pairs),
        )
        check_labels(labels, [cells[VAL] for cells in roles], config.legend, tell)
        spec = _measured(spec, base, pairs, config)
        tiles = [TileScene(s.file, s.labels, regions) for s, regions in pairs]
        reader = stack.enter_context(contextlib.closing(SceneReader(tiles)))

        def fixed(role: int) -> FixedTiles:
            return FixedTiles(reader, [cells[role] for cells in roles], role, spec, config.tiles)

        test = fixed(TEST)
        ignored = config.legend.ignore
        yield RegionData(
            training=TrainingTiles(reader, labels, spec, config.tiles, config.recipe.seed),
            validation=fixed(VAL),
            test=test if len(test) else None,
            sets=sets.table,
            ignore=() if ignored is None else (config.legend.channel(ignored),),
            class_pixels=labels.per_class,
            spec=spec,
            split=split,
            locations=locations,
            pairs=tuple(s.scene.pair for s in scanned),
        )


@dataclass(frozen=True)
class _Scanned:
    """A scene with labels, the raster that stores them, and their counts."""

    scene: LabelledScene
    file: SceneFile
    labels: Path
    cells: CellCounts


def _open_spec(config: RegionConfig) -> PreprocessSpec:
    """A spec without statistics, as the first scene with training pixels suggests."""
    training = [s for s in config.scenes if s.split in (None, "train")]
    if not training:
        raise UsageError(f"{config.label}: no scene is for training; give one `split: train`")
    first = training[0]
    with open_source(first.pair.scene, first.bands, first.nodata, *first.scaling) as source:
        return empty_spec(config.inputs, source, config.tiles.tile_size)


def _scan(
    config: RegionConfig, spec: PreprocessSpec, sets: ClassSets, folder: Path, tell: Tell
) -> list[_Scanned]:
    """Plans the reading of each scene and stores its labels; drops scenes without labels."""
    scanned, empty = [], []
    scans: list[ScannedLabels] = []
    for number, scene in enumerate(config.scenes):
        target = folder / f"labels_{number}.tif"
        with open_source(scene.pair.scene, scene.bands, scene.nodata, *scene.scaling) as source:
            reading = plan_reading(source, spec, scene.units)
            scans.append(scan_labels(scene, reading.source, config.legend, sets, target))
            cells = scans[-1].cells
            # Training processes open the scene again, so store how instead of the open file.
            file = SceneFile(
                paths=scene.pair.scene,
                selected=scene.bands,
                nodata=scene.nodata,
                scaling=scene.scaling,
                kept=reading.bands,
                zero=reading.source.zero,
                bands=reading.scene_bands,
                grid=reading.source.grid,
                label=source.label,
                calibrated=reading.source.calibration is not None,
            )
        if len(cells.cells):
            for warning in reading.warnings:
                tell(f"{scene.name}: {warning}")
            scanned.append(_Scanned(scene, file, target, cells))
        else:
            empty.append(scene.name)
    if not scanned:
        raise UsageError(
            f"{config.label}: no scene has a labelled pixel: all labels are ignored, or lie where "
            "the scenes have no data"
        )
    if empty:
        listed = ", ".join(empty[:_LISTED]) + (", ..." if len(empty) > _LISTED else "")
        tell(
            f"{how_many(len(empty), 'scene')} without a label {were(len(empty))} not used: {listed}"
        )
    for remark in _remarks(config.scenes, scans):
        tell(remark)
    return scanned


def _remarks(scenes: Sequence[LabelledScene], scans: Sequence[ScannedLabels]) -> Iterator[str]:
    """Remarks on the label files and on unused names in maps."""
    # Scenes may share a label file; its remarks are given once.
    reported_files: set[str] = set()
    for scene, scan in zip(scenes, scans, strict=True):
        if scene.pair.labels not in reported_files:
            yield from scan.remarks
        reported_files.add(scene.pair.labels)
    names = unused_names(
        (scene.map or {}, scan.values) for scene, scan in zip(scenes, scans, strict=True)
    )
    if names:
        listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
        yield f"map: no pixel is labelled {listed}"


def _by_role(scene: _Scanned, regions: SceneRoles) -> ByRole:
    """Counts the scene's labels separately for each role of its pixels."""
    shape = scene.cells.shape
    # A scene without blocks has one role, and all its labels are counted already.
    if not len(regions.shapes):
        no_labels = joined([], shape)
        return {r: scene.cells if r == regions.rest else no_labels for r in (TRAIN, VAL, TEST)}
    parts: dict[int, list[CellCounts]] = {TRAIN: [], VAL: [], TEST: []}
    labels = LabelRaster(scene.labels)
    try:
        for window in windows_over(_labelled_area(scene), (_BLOCK, _BLOCK), _WINDOW_PIXELS):
            rows = labels.read(window)
            roles = regions.of(window)
            for role, counts in parts.items():
                counts.append(count_cells(np.where(roles == role, rows, 0), window, shape))
    finally:
        labels.close()
    return {role: joined(counts, shape) for role, counts in parts.items()}


def _labelled_area(scene: _Scanned) -> Window:
    """The smallest window of whole cells that contains all labels."""
    rows, cols = np.divmod(scene.cells.cells, scene.cells.shape[1])
    top, left = int(rows.min()), int(cols.min())
    height, width = int(rows.max()) + 1 - top, int(cols.max()) + 1 - left
    area = Window(top * CELL, left * CELL, height * CELL, width * CELL)
    return area.intersect(scene.file.grid.window)


def _usable(shape: tuple[int, int], regions: SceneRoles) -> NDArray[np.float32]:
    """1 for the cells whose centre is for training, else 0; float32 of shape ``shape``."""
    # With blocks in units of cells instead of pixels, one "pixel" is one cell.
    cell_regions = replace(regions, shapes=shapely.transform(regions.shapes, lambda p: p / CELL))
    roles = cell_regions.of(Window(0, 0, *shape))
    return np.asarray(roles == TRAIN, np.float32)


def _measured(
    spec: PreprocessSpec,
    base: PreprocessSpec | None,
    pairs: Sequence[tuple[_Scanned, SceneRoles]],
    config: RegionConfig,
) -> PreprocessSpec:
    """The spec with statistics of the training pixels."""
    scenes = [SpecScene(s.file, regions) for s, regions in pairs if regions.rest == TRAIN]
    measured = fitted_spec(spec, scenes, config.inputs)
    # The weights of a trained model fit its means, deviations and clips. Only the quantiles, which
    # serve to warn of unusual scenes, are those of the new data.
    return measured if base is None else replace(spec, quantiles=measured.quantiles)
