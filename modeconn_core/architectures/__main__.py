"""The inspector process: a JSON request per line on stdin, a JSON reply per line on stdout, until stdin ends.

The first line it prints is {"ready": true}, once torch, torchvision and timm are imported: from then on no answer waits
for an import. A line that is no request, or that fails in a way nobody foresaw, gets a problem as its reply and ends
nothing.
"""

import json
import sys
import traceback
from typing import TextIO

from modeconn_core.architectures import index, registry
from modeconn_core.architectures.inspector import BadRequest, Reply, answer


def warm_up() -> None:
    """What a first request would otherwise wait for: both libraries, their names, the index."""
    registry.names()
    index.lookup({})


def reply_to(line: str) -> Reply:
    """The reply to one line; never raises."""
    try:
        return answer(json.loads(line))
    except (BadRequest, json.JSONDecodeError, RecursionError) as error:
        problem = {"type": "bad-request", "title": "Not a request", "detail": str(error)}
    except Exception as error:  # one odd request must not end the process for all others
        traceback.print_exc(file=sys.stderr)
        problem = {"type": "internal-error", "title": "The inspector failed on this request", "detail": repr(error)}
    return {"ok": False, "problem": problem}


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answer until the requests end."""
    warm_up()
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in requests:
        print(json.dumps(reply_to(line)), file=replies, flush=True)


if __name__ == "__main__":
    replies, sys.stdout = sys.stdout, sys.stderr  # a library that prints must not break the protocol
    with open(sys.stdin.fileno(), encoding="utf-8", errors="replace") as requests:  # bad bytes make a bad line
        serve(requests, replies)
