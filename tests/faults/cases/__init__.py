"""The cases, by what breaks."""
