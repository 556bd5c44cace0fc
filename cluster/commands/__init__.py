"""The commands, one file each; cluster/commands/cli.py has the list."""
