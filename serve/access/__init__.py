"""Access to the API: keys with scopes, short-lived tokens, and rates."""
