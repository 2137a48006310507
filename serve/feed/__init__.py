"""The feed engine: from a request to a drawn and committed page."""
