"""The world of a feed: vocabulary, protocols, features, reward, simulator; imports no sibling."""
