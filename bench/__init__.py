"""Suspects, measurements and speed, on real data that a --data folder holds."""
