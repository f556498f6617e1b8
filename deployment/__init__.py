"""`make deploy` and `make deploy-check`: from the answers of a person to a stack on AWS that sends.

Reads template.yaml with the local stack's reader, and the functions' settings with the product's. The product does not
import it.
"""
