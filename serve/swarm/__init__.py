"""The swarm: simulated users who swipe over HTTP."""
