"""registerWidgetAsPanel evaluates the widget's text where no name of the caller's is known."""

from __future__ import annotations

from typing import Any

registered: dict[str, str] = {}
panes: list[tuple[str, Any]] = []


class PythonPanel:
    def __init__(self, widget: str) -> None:
        self.widget = eval(widget, {})()

    def addToPane(self, pane: str) -> PythonPanel:  # noqa: N802
        panes.append((pane, self.widget))
        return self


def registerWidgetAsPanel(widget: str, name: str, id: str, create: bool = False) -> PythonPanel | None:  # noqa: N802
    registered[id] = widget
    return PythonPanel(widget) if create else None
