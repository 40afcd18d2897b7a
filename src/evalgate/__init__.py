"""evalgate: is this checkpoint worse than the one we ship, and where?"""
