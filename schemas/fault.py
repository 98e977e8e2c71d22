"""What pydantic found wrong, in words for who wrote it: where, and what."""

from typing import NamedTuple

from pydantic import ValidationError


class Fault(NamedTuple):
    """One thing that is wrong; as text `where: what`."""

    where: str
    """Path to it, with dots; empty where it is the whole that is wrong."""
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


def faults(error: ValidationError) -> list[Fault]:
    """Every fault, at least one, without the value that has it: it may be a secret."""
    return [
        Fault(".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, "))
        for fault in error.errors(include_input=False, include_url=False, include_context=False)
    ]
