"""Scenes and labels from STAC catalogues.

``places`` says which areas are wanted, ``catalogue`` asks a STAC API for items, and ``passes``
makes acquisitions of them. From then on a ``plan`` is fixed and written to ``fetch.json``, so that
an interrupted run goes on with it. ``remote`` reads windows of one raster and asks again where a
server fails; ``mosaic`` lays the items of a pass onto the grid of a place. ``scene_file``,
``composite`` and ``labels`` write the files, ``region_text`` the region.yaml that ``finetune``
reads.
"""
