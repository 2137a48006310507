"""Readers of foreign data: each checks a whole file before anything of it is handed on."""
