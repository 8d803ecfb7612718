"""Everything wired together: what a verb needs to read, judge, record and act."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from services.database import Database
from services.policy import PolicyBook
from services.pools import Pools
from services.settings import Settings, private_folder

if TYPE_CHECKING:
    from services.accounts.people import Passwords
    from services.messaging.message_book import MessageBook
    from services.reading import Reader
    from services.registry import Registry
    from services.snapshot import Snapshots


@dataclass(frozen=True, kw_only=True)
class Signoff:
    """One instance serves a process. ``now`` gives the present in UTC.

    ``passwords`` checks what somebody signs with; without it nothing can be signed.
    """

    settings: Settings
    database: Database
    registry: Registry
    policies: PolicyBook
    snapshot: Snapshots
    reader: Reader
    messages: MessageBook
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    passwords: Passwords | None = None
    pools: Pools = field(default_factory=Pools)
    """Threads for calls that a page does not wait for."""
    acts: bool = True
    """Whether a verb changes MLflow. Else it ends with its intent recorded, and the hook in MLflow carries that out."""

    @property
    def prescribing(self) -> Signoff:
        """The same, whose verbs leave the change to the hook; `services.steps.intents.conclude` finishes them."""
        return replace(self, acts=False)

    def close(self) -> None:
        """Close the database's connections and the pools; calls that are under way are not waited for."""
        self.pools.close()
        self.database.engine.dispose()

    @classmethod
    def open(cls, settings: Settings, *, passwords: Passwords | None = None) -> Signoff:
        """Connect to everything.

        Raises:
            InvalidSettings: a policy file or the message book is wrong.
            LedgerUnavailable: the database cannot be opened or brought to the newest schema.
        """
        from services.mlflow.registry import MlflowRegistry  # imports MLflow: seconds

        return cls.wire(settings=settings, registry=MlflowRegistry(settings.mlflow_uri), passwords=passwords)

    @classmethod
    def wire(
        cls,
        *,
        settings: Settings,
        registry: Registry,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        passwords: Passwords | None = None,
    ) -> Signoff:
        """`open` with a registry of one's own; for tests."""
        from services.accounts import on_record
        from services.messaging import messages
        from services.messaging.message_book import MessageBook
        from services.reading import Reader
        from services.record import activation, checkpoints
        from services.snapshot import Snapshots

        policies = PolicyBook.load(settings.policies)
        book = MessageBook.load(settings.messages, settings.message_secrets)
        if settings.database_url.startswith("sqlite:///"):
            private_folder(settings.home)
        database = Database.of(settings)
        database.upgrade()
        checkpoints.publish(settings)  # each dashboard has a home of its own, and the key may have changed since
        messages.listen(database, book)
        activation.activate(database, policies, at=now())
        on_record.baseline(database, at=now())
        pools = Pools()
        return cls(
            settings=settings,
            database=database,
            registry=registry,
            policies=policies,
            snapshot=Snapshots(registry, gate_token=settings.gate_token),
            reader=Reader(registry, pools=pools),
            messages=book,
            now=now,
            passwords=passwords,
            pools=pools,
        )
