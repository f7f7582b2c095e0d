"""The guards that stand between hostile input and everything else, and the tests that must notice when one is gone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, kw_only=True, slots=True)
class Guard:
    """`text`, which `file` has once, becomes `without`; then one of `tests` (arguments of pytest) must fail."""

    name: str
    file: str
    text: str
    without: str
    tests: str

    def remove(self, root: Path) -> None:
        """Takes the guard out of the tree at `root`."""
        path = root / self.file
        path.write_text(path.read_text().replace(self.text, self.without))


def _never(name: str, file: str, condition: str, tests: str) -> Guard:
    """A refusal whose condition never holds any more."""
    return Guard(name=name, file=file, text=f"if {condition}:\n", without="if False:\n", tests=tests)


def _gone(name: str, file: str, line: str, tests: str) -> Guard:
    """A call that is not made any more."""
    return Guard(name=name, file=file, text=f"    {line}\n", without="    pass\n", tests=tests)


_MODELS = "tests/intake/test_models_refused.py tests/hostile/test_corpus.py"
_SETS = "tests/intake/test_datasets_refused.py tests/hostile/test_corpus.py"
_ESCAPES = "tests/hostile/test_sandbox_escapes.py"
_ZIPS, _SAFETENSORS, _PICKLES = "intake/archives.py", "intake/safetensors_file.py", "intake/pickle_machine.py"
_SANDBOX, _LIVE = "intake/sandbox.py", "ApiKey.expires_at.is_(None) | (ApiKey.expires_at > func.now())"

GUARDS: Final = (
    # uploads
    _never("a zip names a file once", _ZIPS, 'name.rstrip("/") in seen', _SETS),
    Guard(
        name="names in a zip stay below its folder",
        file=_ZIPS,
        text="if unsafe or info.orig_filename",
        without="if info.orig_filename",
        tests=_SETS,
    ),
    Guard(
        name="no links in a zip",
        file=_ZIPS,
        text="if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (",
        without="if (",
        tests=_SETS,
    ),
    _never(
        "a member does not expand",
        _ZIPS,
        "info.file_size > max(limits.ratio_floor_bytes, limits.max_ratio * info.compress_size)",
        _SETS,
    ),
    _never("members do not overlap", _ZIPS, "info.header_offset < end", _SETS),
    _never("a zip starts at its start", _ZIPS, "infos and min(info.header_offset for info in infos) != 0", _SETS),
    _never("tensors follow each other", _SAFETENSORS, "begin != end", _MODELS),
    _never("nothing behind the last tensor", _SAFETENSORS, "start + end != size", _MODELS),
    _never("a key stands once in a header", _SAFETENSORS, "len(result) != len(pairs)", _MODELS),
    Guard(
        name="offsets are positions",
        file=_SAFETENSORS,
        text="0 <= value < 1 << 63",
        without="0 <= value",
        tests=_MODELS,
    ),
    _never(
        "tied tensors do not expand",
        "intake/torch_zip.py",
        "total > max(limits.ratio_floor_bytes, limits.max_ratio * size)",
        _MODELS,
    ),
    _never("a pickle calls known names only", _PICKLES, "full not in _GLOBALS", _MODELS),
    _never("calls are handed so much", _PICKLES, "self.handed_over > self.limits.max_pickle_steps", _MODELS),
    _never("a picture has so many pixels", "intake/images.py", "width * height > limits.max_pixels", _SETS),
    _never(
        "columns do not expand",
        "intake/parquet.py",
        "unpacked > max(limits.ratio_floor_bytes, limits.max_ratio * packed)",
        _SETS,
    ),
    # the sandbox
    _gone("a reader reads code alone", _SANDBOX, "_restrict_files(sandbox, read=code_folders())", _ESCAPES),
    _gone("a reader calls few things", _SANDBOX, "_filter_calls(sandbox, seccomp.reader())", _ESCAPES),
    _gone("a reader has limits", _SANDBOX, "_limit_reader(limits)", f"{_ESCAPES} tests/intake/test_launcher.py"),
    _gone(
        "a job reads its own alone",
        _SANDBOX,
        "_restrict_files(sandbox, read=[*code_folders(), *read], write=write, devices=devices)",
        _ESCAPES,
    ),
    _gone("a job computes, and no more", _SANDBOX, "_filter_calls(sandbox, seccomp.job())", _ESCAPES),
    Guard(
        name="a job's child names its own files",
        file="worker/claimed.py",
        text="""if artifact["path"] != f"{folder}/{artifact['name']}" or "/" in artifact["name"]:""",
        without="if False:",
        tests="tests/worker/test_cell.py -k anothers",
    ),
    Guard(
        name="a job's child inherits no password",
        file="worker/app.py",
        text="os.environ.pop(secret, None)",
        without="pass",
        tests="tests/worker/test_cell.py -k reaches",
    ),
    # tenants
    _gone(
        "row-level security",
        "store/database.py",
        'session.connection().execute(_BECOME_TENANT, {"role": TENANT_ROLE, "tenant": str(tenant_id)})',
        "tests/store/test_row_level_security.py",
    ),
    Guard(
        name="the tenant in the query",
        file="store/job_reads.py",
        text="own = (Job.tenant_id == tenant_id) & (",
        without="own = (",
        tests="tests/store/test_job_reads.py",
    ),
    Guard(
        name="revoked keys",
        file="store/keys.py",
        text=f"ApiKey.revoked_at.is_(None) & ({_LIVE})",
        without=f"({_LIVE})",
        tests="tests/store/test_keys.py",
    ),
    Guard(
        name="expired keys",
        file="store/keys.py",
        text=f"ApiKey.revoked_at.is_(None) & ({_LIVE})",
        without="ApiKey.revoked_at.is_(None)",
        tests="tests/store/test_keys.py",
    ),
    Guard(
        name="the secret of a key",
        file="store/keys.py",
        text="if found is None or not secrets.compare_digest(found[0].secret_sha256, _sha256(secret)):",
        without="if found is None:",
        tests="tests/store/test_keys.py",
    ),
    Guard(
        name="scopes",
        file="api/dependencies.py",
        text="if lacking := [scope for scope in needed.scopes if scope not in caller.scopes]:",
        without="if lacking := list[str]():",
        tests="tests/api/test_every_route.py -k quota",
    ),
    Guard(
        name="the rate of requests",
        file="api/rates.py",
        text="allowed = self._limiter.hit(item, name, who)",
        without="allowed = True",
        tests="tests/api/test_rates.py",
    ),
    _never(
        "stored bytes",
        "store/quotas.py",
        "limit is not None and tenant.stored_bytes + count > limit",
        "tests/api/test_quota.py",
    ),
    _never(
        "queued jobs",
        "store/job_requests.py",
        "len(session.scalars(queued).all()) >= max_queued",
        "tests/store/test_job_requests.py",
    ),
    _never(
        "an Idempotency-Key stands for one request",
        "store/idempotency.py",
        "(stored.method_path, stored.body_sha256) != (method_path, body_sha256)",
        "tests/store/test_idempotency.py",
    ),
    _never("an upload ends at its limit", "api/files/receive.py", "total > limit_bytes", "tests/api/test_files.py"),
    _never(
        "a JSON body ends at its limit",
        "api/middleware.py",
        "self._limit_bytes is not None and self._seen_bytes > self._limit_bytes",
        "tests/api/test_repair.py -k 'large or body'",
    ),
    # what is stored
    Guard(
        name="names stay in the storage",
        file="store/storage.py",
        text="""if any(part in ("", ".", "..") or""",
        without="if any(",
        tests="tests/store/test_storage.py",
    ),
    _never("what is read is what was stored", "store/storage.py", "found != sha256", "tests/store/test_storage.py"),
    _never(
        "a backup is whole",
        "store/backup_file.py",
        'left != 0 or file.read() != f"{digest.hexdigest()}\\n".encode()',
        "tests/store/test_backup.py",
    ),
)
