"""Templates of one language: what they say is translated once, when a template is compiled, and not again for every reader.

What always holds: a page reads as it would by looking each sentence up: the sentence itself is ours and goes as it is, what is put into it is
escaped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from gettext import NullTranslations
from typing import Any

from jinja2 import Environment, nodes
from jinja2.visitor import NodeTransformer
from markupsafe import escape

PLACE = re.compile(r"%\((\w+)\)s|%(%)")
"""What is put into a sentence, or a percent sign in it."""


class TranslatedEnvironment(Environment):
    """Jinja's, whose `_("a sentence", name=value)` cost nothing but their values. A sentence that is not written out there, or counts
    (`ngettext`), is looked up when the page is filled, as in any environment."""

    def __init__(self, translations: NullTranslations, **options: Any) -> None:
        super().__init__(**options, extensions=["jinja2.ext.i18n"])
        self._translate = translations.gettext
        install: Callable[..., None] = self.install_gettext_translations  # type: ignore[attr-defined]
        install(translations, newstyle=True)

    def _generate(self, source: nodes.Template, *where: Any, **how: Any) -> str:
        """Jinja's hook before it writes a template as Python."""
        return super()._generate(_Sentences(self._translate).visit(source), *where, **how)


class _Sentences(NodeTransformer):
    """Puts a sentence's translation, in its parts, where it is asked for."""

    def __init__(self, translate: Callable[[str], str]) -> None:
        self._translate = translate

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        self.generic_visit(node)
        plain = isinstance(node.node, nodes.Name) and node.node.name == "_" and node.dyn_args is None and node.dyn_kwargs is None
        if not plain or len(node.args) != 1 or not isinstance(node.args[0], nodes.Const):
            return node
        values = {given.key: given.value for given in node.kwargs}
        parts = list(_parts(self._translate(node.args[0].value), values, node.lineno))
        return parts[0] if len(parts) == 1 else nodes.Concat(parts, lineno=node.lineno)

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        """A sentence that is only shown need not be put together first."""
        self.generic_visit(node)
        shown: list[nodes.Expr] = []
        for one in node.nodes:
            shown += one.nodes if isinstance(one, nodes.Concat) else [one]
        node.nodes = shown
        return node


def _parts(text: str, values: dict[str, nodes.Expr], lineno: int) -> Iterator[nodes.Expr]:
    """The sentence's own words, and between them what is put in."""
    words, at = "", 0
    for place in PLACE.finditer(text):
        words, at = words + text[at : place.start()], place.end()
        if place[2]:
            words += "%"
        elif isinstance(value := values[place[1]], nodes.Const):
            words += str(escape(value.value))  # as text: Markup would escape the words
        else:
            yield nodes.TemplateData(words, lineno=lineno)
            yield value
            words = ""
    yield nodes.TemplateData(words + text[at:], lineno=lineno)
