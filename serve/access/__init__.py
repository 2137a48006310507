"""Who may call the API: keys with scopes, short-lived tokens, and rates."""
