"""Values and their arithmetic: nothing here imports torch or opens a file."""
