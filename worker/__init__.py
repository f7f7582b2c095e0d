"""Celery worker: claims a job, runs it in a child process, records what happened."""
