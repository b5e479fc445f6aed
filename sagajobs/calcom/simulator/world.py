"""Who can be booked, and for what: the hosts and event types that a simulator starts with."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_ORDINALS = ("One", "Two", "Three", "Four", "Five")


class _Definition(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Host(_Definition):
    """A user of Cal.com with a calendar of his own."""

    id: int
    name: str
    email: str
    username: str
    time_zone: str = "Europe/Berlin"


class EventType(_Definition):
    """Something to book.

    Attributes:
        length: minutes.
        lengths: further lengths to choose from, in minutes; `length` must be one of them. Empty: no choice.
        hosts: ids of those who may be booked; several only with `round_robin`.
        requires_confirmation: bookings start as pending and block nothing.
        round_robin: the free host with the fewest bookings gets it.
        cancelling_disabled: nobody may cancel.
        minimum_notice: minutes that must lie between a call and the start it asks for.
        days_ahead: how far ahead a start may lie; 0 is no limit.
        reschedule_notice: minutes before its start in which only the host may move a booking.
        foreign: the owner of the API keys has no rights on its bookings; otherwise he administers them, whoever
            hosts them.
    """

    id: int
    slug: str
    title: str
    length: int = Field(gt=0)
    lengths: tuple[int, ...] = ()
    hosts: tuple[int, ...] = Field(min_length=1)
    requires_confirmation: bool = False
    round_robin: bool = False
    cancelling_disabled: bool = False
    minimum_notice: int = Field(default=0, ge=0)
    days_ahead: int = Field(default=0, ge=0)
    reschedule_notice: int = Field(default=0, ge=0)
    foreign: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.lengths and self.length not in self.lengths:
            raise ValueError("length must be one of lengths")
        if len(self.hosts) > 1 and not self.round_robin:
            raise ValueError("several hosts need round_robin")
        return self


class World(_Definition):
    """All hosts and event types; the first host is the user whom the API keys belong to."""

    hosts: tuple[Host, ...] = Field(min_length=1)
    event_types: tuple[EventType, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        known = {host.id for host in self.hosts}
        for event_type in self.event_types:
            if not known.issuperset(event_type.hosts):
                raise ValueError(f"event type {event_type.id} has an unknown host")
        if len(known) < len(self.hosts) or len({one.id for one in self.event_types}) < len(self.event_types):
            raise ValueError("an id is used twice")
        return self

    def host(self, host_id: int) -> Host:
        """Return the host with this id, which must exist."""
        return next(host for host in self.hosts if host.id == host_id)

    def event_type(self, event_type_id: int) -> EventType | None:
        """Return the event type with this id, or None."""
        return next((one for one in self.event_types if one.id == event_type_id), None)

    def event_type_by_slug(self, slug: str, username: str) -> EventType | None:
        """Return the event type with this slug that this user hosts alone, or None."""
        return next(
            (
                one
                for one in self.event_types
                if one.slug == slug and not one.round_robin and self.host(one.hosts[0]).username == username
            ),
            None,
        )


def default_world() -> World:
    """Return five hosts and eight event types.

    1 to 5: half an hour with Host One to Five. 6: 15, 30 or 60 minutes with Host One. 7: Host Two, who
    confirms first. 8: round robin of Host Three, Four and Five.
    """
    hosts = tuple(
        Host(id=number, name=f"Host {name}", email=f"host{number}@example.com", username=f"host{number}")
        for number, name in enumerate(_ORDINALS, start=1)
    )
    half_hours = tuple(
        EventType(
            id=host.id,
            slug=f"{host.username}-30min",
            title=f"30 minutes with {host.name}",
            length=30,
            hosts=(host.id,),
        )
        for host in hosts
    )
    return World(
        hosts=hosts,
        event_types=(
            *half_hours,
            EventType(
                id=6,
                slug="choose-length",
                title="As long as you like",
                length=30,
                lengths=(15, 30, 60),
                hosts=(1,),
            ),
            EventType(
                id=7,
                slug="on-request",
                title="On request",
                length=30,
                hosts=(2,),
                requires_confirmation=True,
            ),
            EventType(
                id=8,
                slug="whoever-is-free",
                title="Whoever is free",
                length=30,
                hosts=(3, 4, 5),
                round_robin=True,
            ),
        ),
    )
