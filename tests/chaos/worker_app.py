"""The real worker with short jobs in the place of repairs: `celery -A tests.chaos.worker_app worker`."""

from worker import child
from worker.app import app as app

child.CELL = "tests.chaos.short_job"
child._PRELOAD[:] = [child.CELL]  # no torch: a killed worker is back within a second
