"""Results of several methods under one protocol, to one page: standings, curves, costs and a gallery by defect size."""
