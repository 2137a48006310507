"""The running engine: state, experiments, pipeline, learner, HTTP and command line, composed."""
