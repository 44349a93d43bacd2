"""The same numbers as ``model.network`` for inference, laid out for one device and precision."""
