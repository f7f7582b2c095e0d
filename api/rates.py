"""How many requests a key may send in a minute, counted in Redis for all API processes together.

Redis is a hint here too: when it does not answer, nobody is refused.
"""

import logging
import math
import time
from dataclasses import dataclass

from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis import RedisError

from api.errors import ApiError
from api.logs import log
from store.settings import Settings

_TIMEOUT_SECONDS = 0.5
_PAUSE_SECONDS = 5.0  # without Redis: not one timeout a request


@dataclass(frozen=True, slots=True)
class Rate:
    """Where somebody stands after a request. `seconds`: until the oldest request stops counting."""

    name: str
    item: RateLimitItemPerMinute
    allowed: bool
    remaining: int
    seconds: int

    def headers(self) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers (10) has them."""
        return {
            "RateLimit-Policy": f'"{self.name}";q={self.item.amount};w={self.item.get_expiry()}',
            "RateLimit": f'"{self.name}";r={self.remaining};t={self.seconds}',
        }


class Rates:
    """Counts by a moving window. Safe in many threads."""

    def __init__(self, settings: Settings) -> None:
        storage = RedisStorage(
            settings.redis_url,
            key_prefix="modeconn-rates",
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
        )
        self._limiter = MovingWindowRateLimiter(storage)
        self._of_key = RateLimitItemPerMinute(settings.requests_per_minute)
        self._of_address = RateLimitItemPerMinute(settings.failed_keys_per_minute)
        self._silent_until = 0.0

    def count_request(self, key_id: str) -> dict[str, str]:
        """One more request under a valid key: the headers of its answer. Raises ApiError `too-many-requests`."""
        return self._require("key", self._of_key, key_id, "Your key has sent")

    def count_failure(self, address: str) -> None:
        """One more request with a key that is not valid. Raises ApiError `too-many-requests`.

        Valid keys from the same address are never refused for it: many people may share one.
        """
        self._require("address", self._of_address, address, "Without a valid key, your address has sent")

    def _require(self, name: str, item: RateLimitItemPerMinute, who: str, subject: str) -> dict[str, str]:
        rate = self._count(name, item, who)
        if rate is None:
            return {}
        if rate.allowed:
            return rate.headers()
        raise ApiError(
            "too-many-requests",
            f"{subject} {item.amount} requests in the last minute, which is the limit.",
            headers=rate.headers() | {"Retry-After": str(rate.seconds)},
            limit=item.amount,
        )

    def _count(self, name: str, item: RateLimitItemPerMinute, who: str) -> Rate | None:
        """None: Redis does not answer."""
        if time.monotonic() < self._silent_until:
            return None
        try:
            allowed = self._limiter.hit(item, name, who)
            stats = self._limiter.get_window_stats(item, name, who)
        except (RedisError, OSError) as error:
            self._silent_until = time.monotonic() + _PAUSE_SECONDS
            log("rates are not counted", level=logging.WARNING, cause=str(error))
            return None
        seconds = max(1, math.ceil(stats.reset_time - time.time()))
        return Rate(name, item, allowed, max(0, stats.remaining), seconds)
