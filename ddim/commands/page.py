"""A page in the browser for a trained model."""

from importlib import metadata

from ddim.commands.options import Page
from ddim.errors import DdimError


def page(options: Page) -> None:
    """Serve the page of one model, and of those to compare it with."""
    check_gradio("page")
    from ddim.inference.model import load

    models = {name: load(name) for name in (options.model, *options.against)}
    from ddim.page.app import serve  # imports Keras, which `load` sets up

    serve(models, port=options.port, opens=options.opens or "")


def check_gradio(command: str) -> None:
    """Raise `DdimError` with what to do if Gradio is not installed."""
    try:
        metadata.version("gradio")
    except metadata.PackageNotFoundError:
        raise DdimError(
            f"{command}: expected Gradio, which the extra `page` installs (make page, "
            "or pip install -e '.[page]'); received an environment without it"
        ) from None
