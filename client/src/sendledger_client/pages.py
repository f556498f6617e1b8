"""Every item of a list, page by page: `for lead in each(api.list_leads, search="acme")`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, cast

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
P = ParamSpec("P")


class Page(Protocol[T_co]):
    """What the operations whose names begin with `list_` answer."""

    @property
    def items(self) -> Sequence[T_co]: ...

    @property
    def next_cursor(self) -> str | None: ...


def each(list_: Callable[P, Page[T]], *arguments: P.args, **filters: P.kwargs) -> Iterator[T]:
    """Every item that a list operation finds. The next page is asked for when its first item is needed."""
    method = cast("Callable[..., Page[T]]", list_)
    given: dict[str, Any] = dict(filters)
    while True:
        page = method(*arguments, **given)
        yield from page.items
        if page.next_cursor is None:
            return
        given["cursor"] = page.next_cursor


async def each_async(
    list_: Callable[P, Awaitable[Page[T]]], *arguments: P.args, **filters: P.kwargs
) -> AsyncIterator[T]:
    """As `each`, for asyncio."""
    method = cast("Callable[..., Awaitable[Page[T]]]", list_)
    given: dict[str, Any] = dict(filters)
    while True:
        page = await method(*arguments, **given)
        for item in page.items:
            yield item
        if page.next_cursor is None:
            return
        given["cursor"] = page.next_cursor
