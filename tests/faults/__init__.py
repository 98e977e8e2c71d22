"""Faults on real processes: what the broker has acknowledged is stored once or refused with its reason, and no more."""
