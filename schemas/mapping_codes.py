"""Whose a record is: the codes that a rule of a mapping makes, remembered by what they are made of."""

import re
from collections.abc import Collection, Sequence
from operator import itemgetter
from typing import Any

from schemas.mapping_rule import Rule
from schemas.name import MAX_CODE_CHARACTERS
from schemas.nbiot.fields import imei_of
from schemas.path import Text
from schemas.payload import Unreadable
from schemas.rejection import Reason

CODES_MAX = 16_384
"""Remembered by a rule: the terminals of many gateways."""
CODE_OF_CHARACTERS = 512
"""As much as two codes; a key may be as long as a payload."""
IMEI_DIGITS = 15
_IMEI = re.compile(r"(?:(?i:urn:)?(?i:imei:))?([0-9]{15})")


class Codes:
    """The codes of one rule. `key` and `known` stand open: a record looks its code up without a call."""

    def __init__(self, rule: Rule, kept: Collection[str]) -> None:
        """`kept`: the names that are kept of a topic and of the way to a record. Raises `PathError`."""
        self._rule = rule
        self._code, self._imei = Text(rule.code), Text(rule.imei)
        holes = dict.fromkeys((*self._code.holes, *self._imei.holes))
        self.key = itemgetter(*holes) if holes and holes.keys() <= {*kept} else None
        """What the code depends on, where it can't be anything else."""
        self.known: dict[Any, str] = {}
        """Codes by key."""

    def find(self, kept: dict[str, str], scopes: Sequence[Any]) -> str:
        """The terminal's code, from now on remembered by what it is made of. Raises `Unreadable`."""
        code = self._made(kept, scopes)
        if self.key and len(repr(self.key(kept))) <= CODE_OF_CHARACTERS:
            if len(self.known) >= CODES_MAX:
                self.known.clear()
            self.known[self.key(kept)] = code
        return code

    def _made(self, kept: dict[str, str], scopes: Sequence[Any]) -> str:
        if (
            self._rule.imei
            and (imei := self._imei.fill(kept, scopes))
            and len(imei) >= IMEI_DIGITS
            and (found := _IMEI.fullmatch(imei))
            and (digits := imei_of(found[1]))
        ):
            return f"imei:{digits}"
        if (code := self._code.fill(kept, scopes)) is None:
            detail = f"nothing of 1 to {MAX_CODE_CHARACTERS} characters fills the code {self._rule.code!r}"
            hint = "send what names the terminal, or correct the mapping"
            raise Unreadable(Reason.INVALID_NAME, detail, hint)
        return code
