"""The commands, one file each; cluster/cli.py has the list."""
