"""Write the results page: one HTML file with tables, figures and explanations."""
