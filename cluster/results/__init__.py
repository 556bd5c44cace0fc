"""What a sweep leaves behind: tables, journal, and the figures read from them."""
