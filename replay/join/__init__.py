"""The join of pages and feedback into rewarded decisions, and datasets of them."""
