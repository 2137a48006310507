"""Choice of the next card: retrieval, filters, pools, explorers, learners; imports only env."""
