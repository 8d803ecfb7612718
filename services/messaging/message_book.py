"""Who is told what: rules in YAML, read once and checked. Addresses are secrets, so the file names variables."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    model_validator,
)
from pydantic import BeforeValidator as Before

from services import documents
from services.domain import Role
from services.messaging import delivery
from services.messaging.egress import NEVER, Network
from services.record.ledger import Event, Kind
from services.settings import MESSAGE_SECRETS

MAIL = "mail"
"""The channel that reaches people one by one, at the address of their account."""
SUBMITTER, OWNER, EVERYBODY = "submitter", "owner", "everybody"
"""Who submitted the version, who is to answer what was found in it, and all there are."""
PEOPLE = (SUBMITTER, OWNER, EVERYBODY, *(role.value for role in Role))


def _secret(name: object, info: ValidationInfo) -> SecretStr:
    """The value of the variable that a document names."""
    if not isinstance(name, str) or not name.startswith(MESSAGE_SECRETS):
        raise ValueError(f"give the name of an environment variable {MESSAGE_SECRETS}…, never the address itself")
    value = (info.context or {}).get("secrets", {}).get(name, "")
    if not value:
        raise ValueError(f"the environment variable {name} is not set")
    return SecretStr(value)


def _pattern(text: str) -> str:
    if not fnmatch.filter([kind.value for kind in Kind], text):
        raise ValueError(f"no kind of event fits {text}, so this would never be told; kinds look like outside:stage")
    return text


def _person(text: str) -> str:
    if text not in PEOPLE:
        raise ValueError(f"{text} is nobody; name one of {', '.join(PEOPLE)}")
    return text


def _network(text: object) -> Network:
    network = ip_network(str(text))
    if any(network.version == never.version and network.overlaps(never) for never in NEVER):
        raise ValueError(f"{network} includes link-local addresses, and nothing is ever sent to those")
    return network


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Secret = Annotated[SecretStr, Before(_secret)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Person = Annotated[str, AfterValidator(_person)]
Hours = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


class Mail(_Strict):
    """The server that mail is given to: ``mailto://`` or ``mailtos://`` as Apprise writes it."""

    server: Secret
    sender: Annotated[str, StringConstraints(pattern=r"^[^\s,;<>\"@]+@[^\s,;<>\"@]+$", max_length=200)]

    @model_validator(mode="after")
    def _can_be_sent_to(self) -> Self:
        delivery.mail_server(self.server.get_secret_value(), sender=self.sender)
        return self


class Channel(_Strict):
    """A place where many read, or a program: it gets one message an event."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    kind: Literal["slack", "teams", "webhook"]
    address: Secret

    @model_validator(mode="after")
    def _can_be_sent_to(self) -> Self:
        if self.name == MAIL:
            raise ValueError(f"{MAIL} is what people are reached by; choose another name")
        delivery.channel(self.kind, self.address.get_secret_value())
        return self


class Audience(_Strict):
    """People, by role or by their part in it, and channels."""

    people: tuple[Person, ...] = Field(default=(), strict=False)
    channels: tuple[str, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.people and not self.channels:
            raise ValueError("name people or channels; telling nobody is a mistake")
        return self


class Rule(Audience):
    """What happened, and who is told: ``events`` and ``models`` are patterns with ``*`` and ``?``."""

    title: Text
    events: tuple[Pattern, ...] = Field(min_length=1, strict=False)
    models: tuple[Text, ...] = Field(default=("*",), min_length=1, strict=False)

    def __call__(self, event: Event) -> bool:
        """Whether it is about this event."""
        name = event.ref.name if event.ref else ""
        return any(fnmatch.fnmatchcase(event.kind.value, pattern) for pattern in self.events) and (
            any(fnmatch.fnmatchcase(name, pattern) for pattern in self.models)
        )


class Reminder(Audience):
    """What is told once about each submission that nobody decided on for so long."""

    after_hours: Hours


class Reminders(_Strict):
    """A reminder, and later an escalation."""

    reminder: Reminder
    escalation: Reminder | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.escalation and self.escalation.after_hours <= self.reminder.after_hours:
            raise ValueError("the escalation is to come after the reminder")
        return self


class MessageBook(_Strict):
    """The document: mail server, channels, rules, reminders. Without any of them nobody is told anything."""

    mail: Mail | None = None
    channels: tuple[Channel, ...] = Field(default=(), strict=False)
    rules: tuple[Rule, ...] = Field(default=(), strict=False)
    overdue: Reminders | None = None
    allowed_networks: tuple[Annotated[Network, Before(_network)], ...] = Field(default=(), strict=False)
    """Networks of one's own that messages may go to; all else that is not public is refused."""

    @model_validator(mode="after")
    def _everybody_can_be_reached(self) -> Self:
        names = [channel.name for channel in self.channels]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two channels are named {doubled[0]}")
        for audience in self._audiences():
            if missing := sorted(set(audience.channels) - set(names)):
                raise ValueError(f"there is no channel {missing[0]}")
            if audience.people and not self.mail:
                raise ValueError("people are told by mail; say which server under mail")
        return self

    def _audiences(self) -> Iterator[Audience]:
        yield from self.rules
        if self.overdue:
            yield from (part for part in (self.overdue.reminder, self.overdue.escalation) if part)

    @property
    def destinations(self) -> tuple[str, ...]:
        """The channels by name, mail among them."""
        return (*([MAIL] if self.mail else []), *(channel.name for channel in self.channels))

    @classmethod
    def load(cls, file: Path | None, secrets: Mapping[str, str]) -> MessageBook:
        """Read the document; an empty book where there is no file.

        Raises:
            InvalidSettings: with ``file:line`` for the first mistake; no address is ever part of it.
        """
        if file is None:
            return cls()
        hint = "mail, channels, rules and overdue"
        return documents.checked(
            documents.text_of(file), file.name, cls, what="message book", hint=hint, context={"secrets": secrets}
        )
