"""The encoder: a user, a scene and candidates become the schema's columns."""
