"""Uploads: `POST` and `GET /files`, `GET` and `DELETE /files/{id}`; resumable ones at `/files/resumable`."""
