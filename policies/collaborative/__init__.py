"""Learning from all users together: item factors, coordinates of devices, cohorts of behaviour."""
