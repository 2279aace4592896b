"""Does the adapted model beat its base on held-out rows, and what has it forgotten?"""
