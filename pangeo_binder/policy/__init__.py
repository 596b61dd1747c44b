"""Who may launch what, with how much: the policy file, its mistakes, and the decision. Pure but for reading files."""
