"""What an agent shows the matchmaker: its features, how they are made, and their privacy."""
