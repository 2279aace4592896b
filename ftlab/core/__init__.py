"""The foundations of ftlab: workspace, run directories, files, processes, the Hub, web addresses."""
