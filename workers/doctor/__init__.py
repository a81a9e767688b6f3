"""What the weights say of a parent: how far it moved, whether it can be merged, how to mend it."""
