"""A page as a browser reads it: elements, tables, charts, what it would load."""

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "input", "img", "br", "link", "hr"}
UNTOUCHED = {"script", "style"}
"""Elements whose text is not the page's."""


@dataclass
class Element:
    """An element with its attributes, and all the text within it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def __getitem__(self, name: str) -> str:
        return self.attributes.get(name, "")

    def all(self, tag: str, **attributes: str) -> list["Element"]:
        """Those within it of `tag` with these attributes; a class among several."""
        found = [child for child in self.children if child.tag == tag and child._has(attributes)]
        return found + [inner for child in self.children for inner in child.all(tag, **attributes)]

    def _has(self, attributes: dict[str, str]) -> bool:
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return all(value in self[name].split() if name == "class" else self[name] == value for name, value in wanted.items())


class ParsedPage(HTMLParser):
    """Raises AssertionError where an element is closed that is not open, or an id stands twice."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = Element("document", {})
        self._open = [self.root]
        self.feed(text)
        self.close()
        assert self._open == [self.root], [element.tag for element in self._open]
        self.ids = [element["id"] for element in self._elements(self.root) if element["id"]]
        assert len(self.ids) == len(set(self.ids)), sorted(self.ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        is_code = self._open[-1].tag in UNTOUCHED
        for element in self._open[-1:] if is_code else self._open:
            element.text += data

    def _elements(self, element: Element) -> list[Element]:
        return [element, *(inner for child in element.children for inner in self._elements(child))]

    @property
    def elements(self) -> list[Element]:
        return self._elements(self.root)

    @property
    def headings(self) -> list[str]:
        """Of the sections, in their order."""
        return [element.text for element in self.root.all("h2")]

    def section(self, title: str) -> Element:
        """The section of that heading."""
        return next(section for section in self.root.all("section") if section.all("h2")[0].text == title)

    def table(self, title: str) -> list[dict[str, str]]:
        """The section's rows, by heading."""
        (table,) = self.section(title).all("table")
        headings, *rows = table.all("tr")
        names = [heading.all("button")[0].text for heading in headings.all("th")]
        return [dict(zip(names, (cell.text.strip() for cell in row.children), strict=True)) for row in rows]

    def charts(self, title: str) -> list[dict[str, Any]]:
        """The section's figures, as Plotly is given them."""
        return [json.loads(script.text) for script in self.section(title).all("script", type="application/json")]

    def embedded(self, name: str) -> Any:
        """The JSON that the page's script reads under that id."""
        (script,) = (script for script in self.root.all("script") if script["id"] == name)
        return json.loads(script.text)

    @property
    def addresses(self) -> list[str]:
        """All that a browser would load, or go to."""
        return [element[name] for element in self.elements for name in ("src", "href", "action", "srcset") if element[name]]
