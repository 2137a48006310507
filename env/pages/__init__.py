"""Pages as log records, the verification of their draws, and users' lives made of them."""
