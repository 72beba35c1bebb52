"""The bundled models and their catalogue."""
