"""A B+-tree of a partition, walked from its root: the rules about how pages fit together."""

from collections.abc import Iterator
from typing import NamedTuple

from codec import NONE32, Malformed, Place, printable
from files import Page, PageSource
from pages import DataPage, Entry, IndexPage, check_type, parse_data_page, parse_index_page
from pages import INDEX_TYPES, NEXT_AT, PREV_AT


class Bounds(NamedTuple):
    """Keys of a subtree are >= low and < high; None: no bound on that side."""

    low: bytes | None
    high: bytes | None

    def hold(self, key: bytes) -> bool:
        return (self.low is None or key >= self.low) and (self.high is None or key < self.high)

    def __str__(self) -> str:
        low = "-" if self.low is None else printable(self.low)
        high = "-" if self.high is None else printable(self.high)
        return f"[{low}, {high})"


class Located(NamedTuple):
    """An entry and the place of its first byte."""

    entry: Entry
    place: Place


class Leaf(NamedTuple):
    page_id: int
    prev: int
    next: int
    place: Place


class Tree:
    """One walk over one tree."""

    def __init__(self, source: PageSource, name: str) -> None:
        self.source = source
        self.name = name
        self.leaves: list[Leaf] = []
        self.leaf_depth: int | None = None
        self.incomplete = False

    def walk(self, root: int, manifest: Place) -> Iterator[Located]:
        """All entries in key order. The manifest is where the root's page id stands."""
        if root == NONE32:
            return
        page = self._fetch(root, manifest)
        if page is not None:
            yield from self._index(page, INDEX_TYPES, Bounds(None, None), 0)
        if not self.incomplete:
            self._check_links()

    def _fetch(self, page_id: int, referrer: Place) -> Page | None:
        page = self.source.fetch(page_id, referrer)
        if page is None:
            self.incomplete = True
        return page

    def _malformed(self, page: Page, error: Malformed) -> None:
        self.incomplete = True
        place = page.place.plus(error.at)
        self.source.give_up(place, f"page {page.page_id} of the {self.name}: {error.what}")

    def _add(self, page: Page, at: int, what: str) -> None:
        what = f"page {page.page_id} of the {self.name}: {what}"
        self.source.findings.add(page.place.plus(at), what)

    def _index(
        self, page: Page, wanted: tuple[int, ...], bounds: Bounds, depth: int
    ) -> Iterator[Located]:
        try:
            check_type(page.data, wanted)
            index = parse_index_page(page.data, self.source.options)
        except Malformed as error:
            self._malformed(page, error)
            return
        if index.has_leaves:
            if self.leaf_depth is None:
                self.leaf_depth = depth
            elif self.leaf_depth != depth:
                self._add(page, 8, f"leaves at depth {depth + 1}, others at {self.leaf_depth + 1}")
        for page_id, at, inner in self._children(page, index, bounds):
            child = self._fetch(page_id, page.place.plus(at))
            if child is None:
                continue
            if index.has_leaves:
                yield from self._leaf(child, inner)
            else:
                yield from self._index(child, INDEX_TYPES, inner, depth + 1)

    def _children(
        self, page: Page, index: IndexPage, bounds: Bounds
    ) -> Iterator[tuple[int, int, Bounds]]:
        """Page id, place of the pointer, and bounds of each child."""
        for child in index.children:
            if not bounds.hold(child.separator) or child.separator == bounds.low:
                key = printable(child.separator)
                self._add(page, child.at, f"separator {key} is not inside the bounds {bounds}")
        lows = [bounds.low] + [child.separator for child in index.children]
        highs = [child.separator for child in index.children] + [bounds.high]
        pointers = [(index.leftmost, 11)] + [(c.page_id, c.at) for c in index.children]
        for (page_id, at), low, high in zip(pointers, lows, highs):
            yield page_id, at, Bounds(low, high)

    def _leaf(self, page: Page, bounds: Bounds) -> Iterator[Located]:
        try:
            data: DataPage = parse_data_page(page.data, self.source.options)
        except Malformed as error:
            self._malformed(page, error)
            return
        self.leaves.append(Leaf(page.page_id, data.prev, data.next, page.place))
        for entry in data.entries:
            if not bounds.hold(entry.key):
                key = printable(entry.key)
                self._add(page, entry.at, f"key {key} is outside the bounds {bounds} of its page")
            yield Located(entry, page.place.plus(entry.at))

    def _check_links(self) -> None:
        ids = [NONE32] + [leaf.page_id for leaf in self.leaves] + [NONE32]
        for i, leaf in enumerate(self.leaves):
            for what, at, found, wanted in (
                ("previous", PREV_AT, leaf.prev, ids[i]),
                ("next", NEXT_AT, leaf.next, ids[i + 2]),
            ):
                if found != wanted:
                    self.source.findings.add(
                        leaf.place.plus(at),
                        f"page {leaf.page_id} of the {self.name}: "
                        f"{what} leaf is {_name(found)}, the tree says {_name(wanted)}",
                    )


def _name(page_id: int) -> str:
    return "none" if page_id == NONE32 else f"page {page_id}"
