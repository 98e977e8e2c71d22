"""Decoders of the pushes that NB-IoT platforms send for the terminals on them."""
