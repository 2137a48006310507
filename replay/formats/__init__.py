"""Logs in other formats: dsjson and the Open Bandit Pipeline's."""
