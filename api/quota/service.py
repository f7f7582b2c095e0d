"""Reads limits and usage of the caller's tenant."""

from dataclasses import asdict

from api.dependencies import Caller, Parts
from api.quota.schemas import Quota
from store import quotas
from store.database import tenant_transaction
from store.quotas import Limits


def show(parts: Parts, caller: Caller) -> Quota:
    """Every limit beside what is used of it."""
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        default = Limits.default(parts.settings)
        limits, usage = quotas.limits_and_usage(session, tenant_id=caller.tenant_id, default=default)
    most = asdict(limits)
    return Quota.model_validate({name: {"used": used, "limit": most[name]} for name, used in asdict(usage).items()})
