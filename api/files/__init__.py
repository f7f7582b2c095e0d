"""Uploads: `POST /files`, `GET` and `DELETE /files/{id}`."""
