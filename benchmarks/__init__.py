"""What is measured, not only tested; `make bench` runs it."""
