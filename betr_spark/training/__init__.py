"""Training of scorers on the driver: data, fastText, the linear model, folding, agreement."""
