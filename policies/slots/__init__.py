"""Slot rules of a page: reserved slots for uploads, and the spacing of topics."""
