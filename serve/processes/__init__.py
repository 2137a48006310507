"""Processes of a server: Ray Serve, plain uvicorn, the edge, and the doctor."""
