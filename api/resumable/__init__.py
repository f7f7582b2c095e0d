"""Resumable uploads by the tus protocol: `/files/resumable`."""
