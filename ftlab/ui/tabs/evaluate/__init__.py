"""The tab Evaluate: verdict, figures and answers on held-out rows."""
