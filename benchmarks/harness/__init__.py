"""What every subcommand of ``compare.py`` shares: timing, the table, the machine's description."""
