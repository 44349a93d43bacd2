"""HTML reports of one file each, which need no internet: page, charts, zoomable map.

A page is a Jinja2 template of ``assets/templates`` filled with plain values. Jinja2 escapes them:
a class called ``<script>`` is text. The map (``map_view``) has layers that ``layers`` makes from
rasters; ``pyramid`` embeds them at the finest resolution that a budget of bytes allows.
"""
