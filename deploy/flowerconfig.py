"""Flower's configuration in production: `celery -A sagajobs flower` reads it in the folder that it starts in.

Its login comes from SAGAJOBS_FLOWER_LOGIN, or from the file that SAGAJOBS_FLOWER_LOGIN_FILE names. Whoever reaches a
Flower without a login reads every page, so one that listens for others does not start. Options of Flower's own, by its
own names, may be set here, too; those of its command line come before them.
"""

from tornado.options import options

from sagajobs.root import settings

_login = settings().flower_login
_private = options.address in {"127.0.0.1", "::1", "localhost"} or options.unix_socket

if _login is not None:
    basic_auth = [_login.get_secret_value()]
elif not (options.basic_auth or options.auth or _private):
    raise SystemExit(
        "Error: SAGAJOBS_FLOWER_LOGIN: is missing, and Flower would be open to whoever reaches it; "
        "set it, or SAGAJOBS_FLOWER_LOGIN_FILE, to NAME:PASSWORD, or start Flower with --address=127.0.0.1"
    )
