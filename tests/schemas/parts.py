"""Parts whose readings count by themselves, taken apart, to compare them with parts of one reading."""

from schemas.reading import Part


def taken_apart(parts):
    """The parts in their order, one that has identities as parts of one reading each, with the aliases of its terminal.

    What a part with identities promises is checked on the way.
    """
    apart = []
    for part in parts:
        if not part.identities:
            apart.append(part)
            continue
        assert part.absolute
        assert (part.identity, part.events, part.refusals, part.births) == (None, [], [], [])
        columns = (part.names, part.units, part.values, part.times, part.indexes, part.identities)
        for name, unit, value, time, index, identity in zip(*columns, strict=True):
            aliases = {alias: code for alias, code in part.aliases.items() if code == name[0]}
            apart.append(Part([name], [unit], [value], [time], [index], identity=identity, aliases=aliases))
    return apart
