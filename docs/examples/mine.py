"""A ranking of one's own."""

from policies.custom.scores import column, scores_features, shared_column


@scores_features
def good_match(features):
    """Rank by the user's interests; what is popular counts more for who has shown few."""
    known = shared_column(features, "evidence")
    match = column(features, "long_match") + column(features, "session_match")
    popular = column(features, "popularity")
    return known * match + (1 - known) * popular - 0.1 * column(features, "age")
