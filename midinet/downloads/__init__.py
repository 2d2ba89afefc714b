"""Downloads data sets and the model released in 2021, and unpacks their archives."""
