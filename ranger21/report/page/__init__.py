"""Write the comparison as one HTML file."""
