"""The settings of the contract, read once from the environment and checked."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.domain import Role
from services.errors import InvalidSettings

MIN_SECRET = 32
SEED_BYTES = 32
EARLIER_SECRETS = "SIGNOFF_EARLIER_SECRET_KEYS"
CHECKPOINT_FILE = "checkpoint-key"
"""The file in SIGNOFF_HOME that the embedded stack keeps the seed of its checkpoint key in."""
EARLIER_CHECKPOINT = "SIGNOFF_EARLIER_CHECKPOINT_KEY"
MESSAGE_SECRETS = "SIGNOFF_MESSAGES_"
PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where everything is. Ports are TCP ports on ``host``; URLs have no trailing slash."""

    home: Path
    host: str
    port: int
    mlflow_port: int
    mlflow_uri: str
    embedded: bool
    """Whether the MLflow server is the embedded stack's own."""
    demo: bool
    """Whether the database is, too: only there are a sample registry and demo accounts."""
    database_url: str
    policies: Path
    url: str
    """The public address: links lead there, and only its own pages may act in the name of who is signed in."""
    secret_key: bytes
    checkpoint_seed: bytes = field(repr=False)
    """The 32 bytes the key that signs checkpoints is made of (docs/decisions/004)."""
    earlier_secret_keys: tuple[bytes, ...] = field(default=(), repr=False)
    """Secret keys used before: events sealed with them still count (docs/decisions/027)."""
    messages: Path | None = None
    """The file that says who is told what; None: nobody is told anything."""
    message_secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The variables ``SIGNOFF_MESSAGES_…``, which that file names: addresses with tokens and passwords in them."""
    webhook_secret: str = field(default="", repr=False)
    """What MLflow's webhooks are signed with; empty: none are taken."""
    anonymous_roles: frozenset[Role] = frozenset()
    """The roles of MLflow clients that did not authenticate: they act as `services.accounts.people.MLFLOW_CLIENT`."""
    gate_token: str = field(default="", repr=False)
    """What the hook in the MLflow server proves itself with; empty: there is no hook to listen to."""
    holdouts: tuple[Path, ...] = ()
    """Folders whose files a validation may read by their path; none unless listed."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose ``X-Forwarded-For`` says who a client is; nobody else's does."""

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the contract's variables.

        Raises:
            InvalidSettings: a port, a role, a proxy, the public address or the checkpoint key is none, or a secret
                key is missing or too short.
        """
        home = Path(environ.get("SIGNOFF_HOME") or ".signoff").resolve()
        host = environ.get("SIGNOFF_HOST") or "127.0.0.1"
        port, mlflow_port = _port(environ, "SIGNOFF_PORT", 8501), _port(environ, "SIGNOFF_MLFLOW_PORT", 5000)
        if port == mlflow_port:
            raise InvalidSettings(f"SIGNOFF_PORT and SIGNOFF_MLFLOW_PORT are both {port}; give each its own.")
        external_mlflow = environ.get("MLFLOW_TRACKING_URI")
        # The embedded stack hands its children MLFLOW_TRACKING_URI too; SIGNOFF_EMBEDDED tells them apart.
        embedded = not external_mlflow or environ.get("SIGNOFF_EMBEDDED") == "1"
        database_url = environ.get("SIGNOFF_DATABASE_URL")
        may_generate = embedded and not database_url
        secret_key = _secret_key(environ, home, may_generate=may_generate)
        return cls(
            home=home,
            host=host,
            port=port,
            mlflow_port=mlflow_port,
            mlflow_uri=mlflow_uri(environ),
            embedded=embedded,
            demo=may_generate,
            database_url=database_url or f"sqlite:///{home / 'signoff.db'}",
            policies=Path(environ.get("SIGNOFF_POLICIES") or PROJECT / "policies").resolve(),
            url=_url(environ.get("SIGNOFF_URL") or f"http://localhost:{port}"),
            secret_key=secret_key,
            checkpoint_seed=_checkpoint_seed(environ, home, secret_key, may_generate=may_generate),
            earlier_secret_keys=tuple(
                _long_enough(key, EARLIER_SECRETS) for key in (environ.get(EARLIER_SECRETS) or "").split()
            ),
            messages=Path(environ["SIGNOFF_MESSAGES"]).resolve() if environ.get("SIGNOFF_MESSAGES") else None,
            message_secrets={name: text for name, text in environ.items() if name.startswith(MESSAGE_SECRETS)},
            webhook_secret=environ.get("SIGNOFF_WEBHOOK_SECRET", ""),
            anonymous_roles=_roles(environ.get("SIGNOFF_ANONYMOUS_ROLES"), embedded=embedded),
            gate_token=environ.get("SIGNOFF_GATE_TOKEN") or "",
            holdouts=tuple(
                Path(folder).resolve()
                for folder in (environ.get("SIGNOFF_HOLDOUTS") or "").split(os.pathsep)
                if folder.strip()
            ),
            trusted_proxies=_networks(environ.get("SIGNOFF_TRUSTED_PROXIES") or ""),
        )


def mlflow_uri(environ: Mapping[str, str] = os.environ) -> str:
    """Where the governed MLflow server is; raises `InvalidSettings` for a port that is none."""
    external = environ.get("MLFLOW_TRACKING_URI")
    return (external or f"http://127.0.0.1:{_port(environ, 'SIGNOFF_MLFLOW_PORT', 5000)}").rstrip("/")


def _roles(text: str | None, *, embedded: bool) -> frozenset[Role]:
    if text is None:
        return frozenset({Role.RELEASE_MANAGER}) if embedded else frozenset()
    names = [name.strip() for name in text.split(",") if name.strip()]
    if wrong := sorted(set(names) - set(Role)):
        raise InvalidSettings(f"SIGNOFF_ANONYMOUS_ROLES names {wrong[0]!r}; the roles are {', '.join(Role)}.")
    return frozenset(Role(name) for name in names)


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and (parts.hostname or "").encode("idna") and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidSettings(f"SIGNOFF_URL is {text!r}; it must be an address such as https://signoff.example.")
    return text.rstrip("/")


def _networks(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for part in found:
        try:
            ip_network(part)
        except ValueError as error:
            raise InvalidSettings(
                f"SIGNOFF_TRUSTED_PROXIES names {part!r}; it takes addresses such as 10.0.0.7 and networks such as "
                "10.0.0.0/24, separated by commas."
            ) from error
    return found


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise InvalidSettings(f"{name} is {text!r}; it must be a port number from 1 to 65535.")
    return int(text)


def _secret_key(environ: Mapping[str, str], home: Path, *, may_generate: bool) -> bytes:
    given = environ.get("SIGNOFF_SECRET_KEY")
    if given:
        return _long_enough(given, "SIGNOFF_SECRET_KEY")
    if not may_generate:
        raise InvalidSettings(
            "SIGNOFF_SECRET_KEY is not set; it is needed wherever SIGNOFF_DATABASE_URL or MLFLOW_TRACKING_URI is."
        )
    return private_file(home / "secret-key", secrets.token_urlsafe(48)).encode()


def _long_enough(key: str, where: str) -> bytes:
    if len(key.encode()) < MIN_SECRET:
        has = f"{where} has" if where != EARLIER_SECRETS else f"A key in {where} has"
        raise InvalidSettings(f"{has} {len(key.encode())} bytes; it needs at least {MIN_SECRET}.")
    return key.encode()


def _checkpoint_seed(environ: Mapping[str, str], home: Path, secret_key: bytes, *, may_generate: bool) -> bytes:
    if given := environ.get("SIGNOFF_CHECKPOINT_KEY"):
        return _seed(given, "SIGNOFF_CHECKPOINT_KEY")
    if may_generate:
        path = home / CHECKPOINT_FILE
        return _seed(private_file(path, base64.b64encode(secrets.token_bytes(SEED_BYTES)).decode()), str(path))
    return _derived_seed(secret_key)


def earlier_checkpoint_seeds(settings: Settings, environ: Mapping[str, str] = os.environ) -> tuple[bytes, ...]:
    """What the key that signed checkpoints before can be made of: what is named, else what secret keys lead to.

    Raises:
        InvalidSettings: SIGNOFF_EARLIER_CHECKPOINT_KEY does not hold 32 bytes in base64.
    """
    if given := environ.get(EARLIER_CHECKPOINT):
        return (_seed(given, EARLIER_CHECKPOINT),)
    return tuple(_derived_seed(key) for key in (settings.secret_key, *settings.earlier_secret_keys))


def _derived_seed(secret_key: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=SEED_BYTES, salt=None, info=b"signoff checkpoint key 1").derive(secret_key)


def _seed(text: str, where: str) -> bytes:
    try:
        seed = base64.b64decode(text, validate=True)
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise InvalidSettings(f"{where} does not hold {SEED_BYTES} bytes in base64.")
    return seed


def private_folder(path: Path) -> None:
    """Make a folder that only its owner can open (0700); one that is there already stays as its owner made it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


def private_file(path: Path, content: str) -> str:
    """Return the file's text; on first use create it with ``content``, readable by its owner only (0600)."""
    private_folder(path.parent)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    return content
