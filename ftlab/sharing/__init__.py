"""What is handed over: the result, the report, the export."""
