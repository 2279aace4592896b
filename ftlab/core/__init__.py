"""What every part of ftlab stands on: workspace, run directories, files, processes, the Hub, addresses."""
