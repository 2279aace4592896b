"""Building blocks of every tab: forms, events and lanes, lists, HTML, charts. Imports no tab."""
