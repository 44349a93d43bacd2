"""A model of the time and cost of mapping many scenes on many devices: arithmetic only.

A scene goes through four stages: its bytes are read, decoded, computed, and the map is merged (its
storage blocks compressed, the overviews made). Reading, decoding and computing overlap, in threads
of ``predict``; merging follows. Devices take whole scenes. Where there are fewer scenes than
devices, a scene is cut into shards of rows of tiles, and each cut computes one row of tiles twice.
The object storage is shared by all devices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SceneSize:
    """A scene, and how it is stored.

    Attributes:
        height: Rows.
        width: Columns.
        tile_rows: Rows of tiles of the plan.
        read_gb: What is read of it, in 1e9 bytes.
        written_gb: What is written, in 1e9 bytes.
    """

    height: int
    width: int
    tile_rows: int
    read_gb: float
    written_gb: float

    @property
    def megapixels(self) -> float:
        """Size in millions of pixels."""
        return self.height * self.width / 1e6


@dataclass(frozen=True)
class Rates:
    """What a device and its surroundings can do.

    Attributes:
        start: Seconds to start a process and load the model, once per device.
        prepare: CPU seconds to open a scene and decide how it is read. While another scene is
            computed this costs no time, if there is a free core.
        decode: CPU seconds per megapixel to read and decode what is in memory.
        compute: Seconds per megapixel on the device, tiles that overlap included.
        merge: CPU seconds per megapixel to write the map and its overviews.
        cores: CPU cores for each device.
        device_gb_per_second: What one device's machine reads from the storage, in 1e9 bytes.
        storage_gb_per_second: What the storage gives to all together, in 1e9 bytes.
        price: Cost of a device and its machine for an hour.
    """

    start: float
    prepare: float
    decode: float
    compute: float
    merge: float
    cores: int
    device_gb_per_second: float
    storage_gb_per_second: float
    price: float


@dataclass(frozen=True)
class Forecast:
    """A prediction.

    Attributes:
        hours: Wall time.
        cost: Price of all devices for that time.
        limit: The stage that takes longest, so the one that more devices do not help first.
        busy: Share of the time in which the devices compute.
    """

    scenes: int
    devices: int
    hours: float
    cost: float
    limit: str
    busy: float


def forecast(scenes: int, devices: int, scene: SceneSize, rates: Rates) -> Forecast:
    """Time and cost of mapping so many equal scenes."""
    together = min(devices, scenes)
    shards = min(max(1, devices // scenes), scene.tile_rows)
    work = shard_share(scene.tile_rows, shards)
    size = scene.megapixels
    # Seconds of each stage of one scene.
    stages = {
        "reading": work * scene.read_gb / rates.device_gb_per_second,
        "decoding": work * size * rates.decode / rates.cores,
        "computing": work * size * rates.compute,
    }
    merge = size * rates.merge / rates.cores + scene.written_gb / rates.device_gb_per_second
    first = rates.prepare
    rounds = math.ceil(scenes / together)
    each = max(*stages.values(), rates.prepare / rates.cores) + merge
    storage = scenes * (scene.read_gb + scene.written_gb) / rates.storage_gb_per_second
    own = first + rounds * each
    seconds = rates.start + max(own, storage)
    slowest = max({**stages, "merging": merge}.items(), key=lambda item: item[1])[0]
    return Forecast(
        scenes,
        devices,
        seconds / 3600,
        devices * rates.price * seconds / 3600,
        "object storage" if storage > own else slowest,
        scenes * size * rates.compute / (devices * seconds),
    )


def shard_share(tile_rows: int, shards: int) -> float:
    """Share of a scene's rows of tiles that the largest of its shards computes.

    A shard that does not end at the bottom of the scene also computes the row of tiles below it,
    because neighbouring rows of tiles are blended.
    """
    largest = math.ceil(tile_rows / shards)
    return min(tile_rows, largest + (shards > 1)) / tile_rows


def total_share(tile_rows: int, shards: int) -> float:
    """Rows of tiles that all shards compute, as a share of those of the scene."""
    return (tile_rows + min(shards, tile_rows) - 1) / tile_rows


@dataclass(frozen=True)
class Year:
    """How many scenes of land Sentinel-1 takes in a year, from its orbit.

    It agrees with a published count within 5 %: the Sentinel-1 Global Backscatter Model was made
    of 460,000 IW GRDH scenes, all those of land in VV and VH of 2016 and 2017, so 230,000 a year
    (sentinel.esa.int, "Sentinel-1 Global Backscatter Model"; Bauer-Marschallinger et al. 2021,
    doi:10.1038/s41597-021-01059-7, counts half a million with those that were left out).

    Attributes:
        land_km2: Land without Antarctica.
        swath_km: Width of an IW scene.
        length_km: Length of an IW scene: 25 s along the orbit.
        edges: Scenes needed over the quotient of the areas: coasts, and overlaps of swaths.
        repeat_days: Days of a repeat cycle.
        orbits: Orbits in a repeat cycle.
        duty_minutes: Minutes of an orbit in which IW images can be taken.
        satellites: Satellites in operation.
    """

    land_km2: float = 134.9e6
    swath_km: float = 250.0
    length_km: float = 170.0
    edges: float = 1.25
    repeat_days: float = 12.0
    orbits: int = 175
    duty_minutes: float = 25.0
    satellites: int = 2

    @property
    def scenes(self) -> int:
        """One look at all land per satellite and cycle: rising or descending passes."""
        each = self.land_km2 / (self.swath_km * self.length_km) * self.edges
        return round(each * self._cycles * self.satellites)

    @property
    def most(self) -> int:
        """As many as the radar can take at all: sea and ice too."""
        each = self.orbits * self.duty_minutes * 60 / 25
        return round(each * self._cycles * self.satellites)

    @property
    def _cycles(self) -> float:
        return 365.25 / self.repeat_days
