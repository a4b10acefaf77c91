"""What need not be guessed of raw tables: the options of `atrank init`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields


@dataclass(frozen=True)
class Hints:
    """What need not be guessed; each is an option of `atrank init`.

    events, objects: files in the folder; group: what they describe.
    user, time, object, action: columns of the events; key: the column of the objects that holds the object.
    one_action: an action for all behaviors, where no column says it.
    features: columns of the events that describe the object, where there is no table of objects.
    kinds: `categorical`, `continuous`, `tokens` or `none` (leave it out), by column.
    time_format: `s`, `ms`, `us`, `ns`, or strptime's directives; time_zone: IANA name.
    name: of the log; the folder's name if not given.

    Raises:
        ValueError: one of them is empty.

    >>> Hints(one_action="")
    Traceback (most recent call last):
        ...
    ValueError: --one-action is empty; write what it should say, or leave the option out
    """

    events: str | None = None
    objects: str | None = None
    group: str | None = None
    user: str | None = None
    time: str | None = None
    object: str | None = None
    action: str | None = None
    key: str | None = None
    one_action: str | None = None
    features: tuple[str, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    time_format: str | None = None
    time_zone: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        given = [(part.name, vars(self)[part.name]) for part in fields(self)]
        for name, value in [*given, *(("feature", column) for column in self.features)]:
            if isinstance(value, str) and not value.strip():
                option = name.replace("_", "-")
                raise ValueError(f"--{option} is empty; write what it should say, or leave the option out")

    @property
    def roles(self) -> dict[str, str | None]:
        """The columns of the events, by what they say."""
        return {"user": self.user, "time": self.time, "object": self.object, "action": self.action}
