"""The learner process: it folds the log into versions, publishes and follows them."""
