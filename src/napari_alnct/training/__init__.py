"""How the models are made."""
