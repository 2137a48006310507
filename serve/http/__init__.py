"""The HTTP application: operations, admission, OpenAPI, metrics, and the page."""
