"""Jobs on the workers of a dask cluster: who may work, what is sent, what happens when one is lost."""
