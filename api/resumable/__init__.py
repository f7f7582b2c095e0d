"""Uploads in pieces, by the tus protocol."""
