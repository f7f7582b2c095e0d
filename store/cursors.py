"""Cursors: where the next page of a list begins, for lists with the newest first."""

import base64
import binascii
import json
from datetime import datetime
from uuid import UUID

from store.errors import BadCursor
from store.tables import File, Job


def encode_cursor(last: Job | File) -> str:
    """The cursor of the page that begins behind this row."""
    return base64.urlsafe_b64encode(json.dumps([last.created_at.isoformat(), str(last.id)]).encode()).decode()


def decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    """The moment and the id of the row before the page. Raises BadCursor."""
    try:
        created_at, job_id = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
        moment = datetime.fromisoformat(created_at)
        if moment.tzinfo is None:
            raise ValueError("a moment without a zone")
        return moment, UUID(job_id)
    except (binascii.Error, ValueError, TypeError, AttributeError) as error:
        raise BadCursor("this cursor was not made by this service") from error
