"""Messages of the HTTP API, their codecs, and a client."""
