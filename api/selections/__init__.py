"""Another t of a finished job."""
