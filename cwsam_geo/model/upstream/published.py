"""SAM's public checkpoints: names, addresses and hashes."""

from __future__ import annotations

from dataclasses import dataclass

from cwsam_geo.errors import UsageError

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt")
"""Endings of the files that ``torch.save`` wrote, which are no model bundles."""

_HOST = "https://dl.fbaipublicfiles.com/segment_anything/"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that can be downloaded.

    Attributes:
        name: Name in ``cwsam-geo models``.
        backbone: Key in ``BACKBONES``.
        size: Size of the file in bytes.
        sha256: Hash of the file, 64 hexadecimal digits.
    """

    name: str
    backbone: str
    url: str
    size: int
    sha256: str

    @property
    def file_name(self) -> str:
        """Last part of the URL."""
        return self.url.rpartition("/")[2]


CHECKPOINTS = {
    c.name: c
    for c in (
        Checkpoint(
            "sam_vit_b",
            "vit_b",
            f"{_HOST}sam_vit_b_01ec64.pth",
            375_042_383,
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        ),
        Checkpoint(
            "sam_vit_l",
            "vit_l",
            f"{_HOST}sam_vit_l_0b3195.pth",
            1_249_524_607,
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        ),
        Checkpoint(
            "sam_vit_h",
            "vit_h",
            f"{_HOST}sam_vit_h_4b8939.pth",
            2_564_550_879,
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        ),
    )
}
"""SAM's three checkpoints (Apache-2.0). Many public records agree on these sizes and hashes."""


def find_checkpoint(name: str) -> Checkpoint:
    """Finds a checkpoint by its name, backbone or file name.

    Raises:
        UsageError: There is no such checkpoint; the message lists all names.
    """
    checkpoint = named_checkpoint(name)
    if checkpoint is None:
        raise UsageError(f"no checkpoint {name!r}; there are {', '.join(CHECKPOINTS)}")
    return checkpoint


def named_checkpoint(name: str) -> Checkpoint | None:
    """Finds a checkpoint by its name, backbone or file name; None if there is no such one."""
    checkpoints = CHECKPOINTS.values()
    return next((c for c in checkpoints if name in (c.name, c.backbone, c.file_name)), None)
