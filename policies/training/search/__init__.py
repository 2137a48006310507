"""Search of ranking weights over whole lives in the simulated world."""
