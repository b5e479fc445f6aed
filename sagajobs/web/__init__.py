"""What the web talks to: the receiver of Cal.com's webhooks, as a function, as endpoints, and as a server."""

from __future__ import annotations

from sagajobs.web.endpoints import webhook_asgi, webhook_wsgi
from sagajobs.web.webhooks import WebhookAnswer, handle_webhook

__all__ = ["WebhookAnswer", "handle_webhook", "webhook_asgi", "webhook_wsgi"]
