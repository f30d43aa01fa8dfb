"""The pages for machines: `/livez`, `/readyz`, `/metrics`."""
