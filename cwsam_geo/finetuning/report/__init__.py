"""What a finished training writes: bundle, card, tables and pictures."""
