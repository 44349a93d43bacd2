"""A SAR input, understood."""
