"""Labelled scenes to samples.

``labels`` reads each label file once, on its scene's grid. It asks ``core.class_values`` which
classes each code, name or colour may mean, and writes a temporary raster whose pixels are row
numbers of the table of class sets (``targets.class_sets``): row 0 is "no label", rows 1 to K are
the single classes, further rows are partial labels, which allow several classes. The rows are
counted in cells of 32 pixels; ``split`` gives each pixel its role from these counts, and
``label_check`` refuses labels that cannot train or validate. ``tiles`` draws windows, ``augment``
varies them, and a sample is the preprocessed tile with the row numbers of its pixels. The loss
looks the rows up in the table: it is -log of the summed probability of the classes that a row
allows.
"""
