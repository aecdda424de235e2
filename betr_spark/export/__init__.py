"""A finished selection as files that a training job reads."""
