"""API keys: shown once, hashed, ended by expiry or revocation; the local key file."""

import hashlib
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from store import keys
from store.database import transaction
from store.tables import ApiKey

PAST, FUTURE = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture
def create(factory, tenant_id):
    def make(**changes):
        with transaction(factory) as session:
            return keys.create_key(session, **{"tenant_id": tenant_id, "label": "laptop", **changes})

    return make


@pytest.fixture
def login(factory):
    def authenticate(plaintext):
        with transaction(factory) as session:
            return keys.authenticate(session, plaintext)

    return authenticate


def test_the_plaintext_opens_and_is_not_stored(factory, create, login, tenant_id):
    key, plaintext = create()
    prefix, key_id, secret = plaintext.split("_", 2)
    assert (prefix, key_id, len(key_id)) == ("mcr", key.id, 12)
    assert login(plaintext).tenant_id == tenant_id
    with transaction(factory) as session:
        stored = session.get(ApiKey, key.id)
        assert stored.secret_sha256 == hashlib.sha256(secret.encode()).hexdigest()
        assert stored.last_used_at is not None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
        lambda key: key[:-1],
        lambda key: key + "A",
        lambda key: "mcr_" + "a" * 12 + key[16:],
        lambda key: key.replace("mcr_", "xxx_"),
        lambda key: key.split("_")[1],
        lambda key: "",
        lambda key: "mcr__",
        lambda key: "mcr_é\0_x",
    ],
)
def test_anything_else_does_not_open(create, login, spoil):
    _, plaintext = create()
    assert login(spoil(plaintext)) is None


def test_expired_keys_do_not_open(create, login):
    assert login(create(expires_at=PAST)[1]) is None
    assert login(create(expires_at=FUTURE)[1]) is not None


def test_a_revoked_key_does_not_open_and_only_its_tenant_revokes(factory, create, login, tenant_id, other_tenant_id):
    key, plaintext = create()
    with transaction(factory) as session:
        assert not keys.revoke(session, tenant_id=other_tenant_id, key_id=key.id)
    assert login(plaintext) is not None
    with transaction(factory) as session:
        assert keys.revoke(session, tenant_id=tenant_id, key_id=key.id)
        assert not keys.revoke(session, tenant_id=tenant_id, key_id=key.id)
    assert login(plaintext) is None


def test_a_tenant_lists_its_own_keys(factory, create, tenant_id, other_tenant_id):
    mine = [create()[0].id, create(expires_at=PAST)[0].id]
    create(tenant_id=other_tenant_id)
    with transaction(factory) as session:
        assert [key.id for key in keys.list_keys(session, tenant_id=tenant_id)] == mine[::-1]


def test_the_local_key_file_is_private_and_kept_while_it_works(database_url, login, factory, tmp_path):
    out = tmp_path / "data" / "local.key"
    line = [sys.executable, "-m", "store.keys", "local", "--out", str(out)]
    environment = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "STORAGE_URL")}

    def run():
        subprocess.run(line, env={**environment, "DATABASE_URL": database_url}, cwd=tmp_path, check=True)
        return out.read_text().strip()

    first = run()
    key = login(first)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert run() == first
    with transaction(factory) as session:
        keys.revoke(session, tenant_id=key.tenant_id, key_id=key.id)
    second = run()
    assert login(second).tenant_id == key.tenant_id
    assert os.listdir(out.parent) == ["local.key"]
