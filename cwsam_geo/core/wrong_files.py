"""Recognises what often comes in the place of a download, by the first bytes of the file."""

from __future__ import annotations

HEAD = 512
"""Bytes from the beginning of a file that ``wrong_download`` needs."""


def wrong_download(head: bytes) -> str:
    """Says what a file is if it is no data at all, and what the user can do; else ``""``.

    Args:
        head: The first bytes of the file, at most ``HEAD``.
    """
    if not head:
        return "is empty (0 bytes); get the file again"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself; get the file (git lfs pull)"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html", b"<head")):
        return "is a web page, not the file itself; download the file"
    return ""
