"""What a label may stand for, and what missing it costs."""
