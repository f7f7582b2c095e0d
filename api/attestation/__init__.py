"""Signed statements of what a job made, and the key that checks them."""
