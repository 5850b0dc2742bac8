"""A workdir's records as a terminal table, figures and one self-contained `report.html`."""
