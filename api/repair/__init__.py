"""Repair jobs: post, list, show, cancel, retry, and the curve."""
