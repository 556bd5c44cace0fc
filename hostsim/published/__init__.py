"""Published measurements, and the fit of the cost model to them."""
