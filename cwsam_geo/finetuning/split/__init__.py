"""Which pixels train, which validate and which test: blocks of ground, kept apart."""
