"""Dual encoders: one interface, the families behind it, and the typed descriptions that build them."""
