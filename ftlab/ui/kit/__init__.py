"""What every tab is made of: forms, events and lanes, lists, HTML, charts. It knows no tab."""
