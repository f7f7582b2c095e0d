"""Analyses of the path between two models: post, list, show, cancel, retry, the points and the fitted paths."""
