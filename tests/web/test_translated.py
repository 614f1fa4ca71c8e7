"""Sentences that are translated when a template is compiled read as Jinja's own lookup gives them."""

from gettext import NullTranslations

import pytest
from jinja2 import DictLoader, Environment, StrictUndefined

from openami.web.translated import TranslatedEnvironment

GIVEN = {"name": "<b> & Söhne", "n": 3, "many": ["a", "<i>"], "safe": True}
SENTENCES = {
    "Hello": "नमस्ते",
    "To %(who)s": "%(who)s को <b>100 %%</b>",
    "%(a)s of %(b)s": "%(b)s में से %(a)s, %(a)s",
    "day": "दिन",
    "days": "दिन",
}


class Hindi(NullTranslations):
    def gettext(self, message: str) -> str:
        return SENTENCES.get(message, message)

    def ngettext(self, one: str, many: str, n: int) -> str:
        return SENTENCES[one if n == 1 else many]


def jinja(source: str) -> Environment:
    plain = Environment(loader=DictLoader({"it": source}), autoescape=True, undefined=StrictUndefined, extensions=["jinja2.ext.i18n"])
    plain.install_gettext_translations(Hindi(), newstyle=True)  # type: ignore[attr-defined]
    return plain


@pytest.mark.parametrize(
    "source",
    [
        "{{ _('Hello') }}",
        "<a title=\"{{ _('Hello') }}\">",
        "{{ _('To %(who)s', who=name) }} and {{ _('To %(who)s', who=name|upper) }}",
        "{{ _('To %(who)s', who='a & b') }}",
        "{{ _('%(a)s of %(b)s', a=n, b=name) }}",
        "{% for one in many %}{% set was = _('To %(who)s', who=one) %}{{ was }}{{ loop.index }}{% endfor %}",
        "{% set both = _('Hello') ~ name ~ '<' %}{{ both }}{{ _('Hello') ~ name ~ '<' }}",
        "{{ _('Hello') if safe else _('To %(who)s', who=name) }}{{ _('To %(who)s', who=name) if safe else '' }}",
        "{% macro said(text) %}<p>{{ text }}</p>{% endmacro %}{{ said(_('To %(who)s', who=name)) }}",
        "{% for at, label in [(1, _('Hello')), (2, '<')] %}{{ at }}{{ label }}{% endfor %}",
        "{% set asked = 'Hello' %}{{ _(asked) }}{{ _('To %(who)s', **{'who': name}) }}",
        "{{ ngettext('day', 'days', n) }}",
        "{{ _('nobody translated 100 %% of this') }}",
    ],
)
def test_a_sentence_reads_as_looked_up(source: str) -> None:
    translated = TranslatedEnvironment(Hindi(), loader=DictLoader({"it": source}), autoescape=True, undefined=StrictUndefined)
    assert translated.get_template("it").render(**GIVEN) == jinja(source).get_template("it").render(**GIVEN)


def test_a_sentence_is_not_looked_up_again() -> None:
    class Counting(Hindi):
        asked = 0

        def gettext(self, message: str) -> str:
            self.asked += 1
            return super().gettext(message)

    catalogue = Counting()
    template = TranslatedEnvironment(catalogue, autoescape=True).from_string("{{ _('To %(who)s', who=who) }}")
    assert [template.render(who=who) for who in ("a", "b")] == ["a को <b>100 %</b>", "b को <b>100 %</b>"]
    assert catalogue.asked == 1
