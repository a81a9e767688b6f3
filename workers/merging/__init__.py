"""What merge methods are made of: the protocol, and the parts that several of them share."""
