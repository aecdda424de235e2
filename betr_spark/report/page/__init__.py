"""The report page: figures of the sections, drawings, and one HTML file of them."""
