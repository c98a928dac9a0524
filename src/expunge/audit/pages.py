"""The templates of this room's pages: escaped, and strict about what they are not given."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def pages() -> Environment:
    """The environment of every page; filters of its own are added by each."""
    return Environment(
        loader=PackageLoader("expunge.audit", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
