"""What every result says of itself."""

NOTICE = "Research software. Not a medical device, not for diagnosis or treatment."
