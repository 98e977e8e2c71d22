"""A day of Shandong: the zone of its clocks, which day a moment is in, and when a day begins.

Pure. One zone, and no summer time since 1991: what is counted by the day is counted by this one.
"""

from datetime import date, datetime, timedelta, timezone

SHANDONG_SECONDS = 8 * 3_600
"""What Shandong's clocks are ahead of UTC."""
SHANDONG = timezone(timedelta(seconds=SHANDONG_SECONDS))
"""China Standard Time."""


def day_of(at: float) -> date:
    """The day in Shandong of a time in Unix seconds."""
    return datetime.fromtimestamp(at, SHANDONG).date()


def midnight_seconds(day: date) -> float:
    """When a day begins in Shandong, Unix seconds."""
    return datetime(day.year, day.month, day.day, tzinfo=SHANDONG).timestamp()
