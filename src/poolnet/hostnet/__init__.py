"""What a host should look like: state types, derive, diff, show."""
