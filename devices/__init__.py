"""Who is out there: identity, registry, presence, plan, coverage. Imports `schemas` only."""
