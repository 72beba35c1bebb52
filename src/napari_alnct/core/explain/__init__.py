"""Why the network gave its score: class-activation maps, occlusion and integrated gradients, in world space."""
