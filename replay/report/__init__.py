"""HTML reports of an evaluation."""
