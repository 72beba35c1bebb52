"""One job over many scans: parallel, resumable, honest about failures."""
