"""What a host is, and what comes out of its simulation; units and errors."""
