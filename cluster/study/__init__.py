"""What a study is: its keys, the file that it is read from, and the plan of its cells."""
