"""How detections are judged against reference nodules."""
