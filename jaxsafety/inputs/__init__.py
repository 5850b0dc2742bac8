"""What a user gives an experiment: settings, dialogues, and prompts on both of its sides."""
