"""The formats that traces come in, one file for each family."""
