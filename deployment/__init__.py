"""`make deploy` and `make deploy-check`: from the answers of a person to a stack on AWS that sends.

Reads template.yaml with the local stack's reader; it does not import the product, and the product does not import it.
"""
