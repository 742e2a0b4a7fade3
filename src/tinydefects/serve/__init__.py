"""What stays running beside a line: a watched folder, and a service over HTTP."""
