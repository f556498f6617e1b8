"""The API's resolver. For short cold starts it imports a module of routes when a request first needs one of them."""

from __future__ import annotations

import importlib

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter

from route_table import ROUTES, check_module


class LazyApi(APIGatewayHttpResolver):
    _loaded: frozenset[str] = frozenset()

    def load(self, module: str) -> None:
        """Import this module and add its routes, once.

        Raises:
            RuntimeError: a route of it is not listed, or a listed one is missing.
        """
        if module in self._loaded:
            return
        router: APIGatewayHttpRouter = importlib.import_module(module).router
        check_module(module, (f"{method} {path}" for path, methods, *_ in router._routes for method in methods))
        self.include_router(router)
        self._loaded |= {module}

    def load_all(self) -> None:
        """For what describes the whole API."""
        for module in ROUTES:
            self.load(module)
