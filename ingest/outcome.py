"""What became of a batch's messages and readings: the account that is settled once it is committed. Pure."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from devices.registry import Registry
from ingest.batch import Batch
from ingest.copy import POSTGRES_EPOCH
from ingest.sealed import FLAGS, Sealed
from schemas.rejection import Refusal


@dataclass(slots=True)
class Outcome:
    """What became of a batch's messages and readings, to be counted once it is committed."""

    messages_committed: int = 0
    messages_duplicate: int = 0
    messages_rejected: Counter[str] = field(default_factory=Counter)
    refused: dict[int, Refusal] = field(default_factory=dict)
    """By number of the message: the first refusal of each of which nothing could be stored."""
    refusals: dict[int, list[Refusal]] = field(default_factory=dict)
    """By number of the message, in order of their places: all of what is new."""
    feedback: list[tuple[str, bytes]] = field(default_factory=list)
    """Topics and payloads that tell gateways of refusals, to be published once it is committed."""
    readings_committed: Counter[str] = field(default_factory=Counter)
    """By domain."""
    readings_duplicate: int = 0
    readings_rejected: Counter[str] = field(default_factory=Counter)
    readings_flagged: Counter[str] = field(default_factory=Counter)
    events_committed: int = 0
    rejections_unstored: int = 0
    sequence_resets: Counter[str] = field(default_factory=Counter)
    """By gateway: messages under a number that had brought another one in the same epoch."""
    observed_at: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Device times of the committed readings, Unix seconds."""
    direct_compress: bool = False


def count(batch: Batch, fresh: Sealed, known: npt.NDArray[np.bool_], registry: Registry) -> Outcome:
    """What became of each message and reading; `fresh` is what is not `known`, part by part."""
    outcome, rows = Outcome(events_committed=len(fresh.events)), fresh.rows
    stored = np.bincount(fresh.part_of_row, minlength=len(batch.digests))
    for event in fresh.events:
        stored[event.part] += 1
    message_of = np.array(batch.message_of)
    new = np.bincount(message_of, ~known, len(batch.messages)) > 0
    landed = np.bincount(message_of, stored, len(batch.messages)) > 0
    outcome.messages_duplicate = int((~new).sum())
    outcome.refusals = by_message = _by_message(batch, fresh)
    for number in by_message.keys() - set(np.flatnonzero(landed).tolist()):
        outcome.refused[number] = by_message[number][0]
        outcome.messages_rejected[by_message[number][0].reason] += 1
    outcome.messages_committed = (
        len(batch.messages) - outcome.messages_duplicate - outcome.messages_rejected.total()
    )
    for number in np.flatnonzero(known).tolist():
        outcome.readings_duplicate += batch.readings_of(number)
    for refusals in fresh.refusals.values():
        for refusal in refusals:
            if refusal.index is not None and not refusal.event:
                outcome.readings_rejected[refusal.reason] += refusal.count
    identities = Counter(event.cell for event in fresh.events if event.cell is not None)
    for cell, n in (*enumerate(np.bincount(rows["cell_id"]).tolist()), *identities.items()):
        if n:
            outcome.readings_committed[registry.domain_of_cell[cell]] += n
    flagged = np.bincount(rows["quality"])
    for name, bit in FLAGS.items():
        outcome.readings_flagged[name] = int(flagged[np.arange(len(flagged)) & bit != 0].sum())
    outcome.observed_at = rows["observed_at"] / 1e6 + POSTGRES_EPOCH
    return outcome


def _by_message(batch: Batch, fresh: Sealed) -> dict[int, list[Refusal]]:
    """Refusals by number of the message, in order of their places."""
    found: dict[int, list[Refusal]] = {}
    for part, refusals in fresh.refusals.items():
        found.setdefault(batch.message_of[part], []).extend(refusals)
    for refusals in found.values():
        refusals.sort(key=_place)
    return found


def _place(refusal: Refusal) -> int:
    return -1 if refusal.index is None else refusal.index
