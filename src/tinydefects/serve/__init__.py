"""What stays running beside a line: a watched folder."""
