"""Private servers that live as long as somebody uses them.

`acquire` gives any process of a user the same server for one home folder: the first one starts it, the last
one's end stops it. Nobody has to say goodbye: a process that uses a server holds a shared lock on a file,
which the kernel takes back when the process ends, a SIGKILL included.

Each component has a folder, ``<home>/<component>/``, with three locks (`flock`):

* ``users.lock``: shared by every user. The keeper waits for it exclusively: having it means nobody is left,
  and as it keeps it until its own end, newcomers wait at the door.
* ``start.lock``: exclusive, held while the server is being looked up, started, restarted or stopped. Whoever
  has it may rely on what ``server.json`` says.
* ``keeper.lock``: exclusive, held by the keeper for its life. Free means that there is no keeper.

The keeper (``python -m sagajobs.runtime.embedded``) is a small process that owns the real server as its
child. It inherits its locks from the process that starts it, so there is no moment at which nobody holds
them. A service manager that kills every process of a service (systemd's control groups, a container's end)
takes the keeper along, if this service was the first user; the next `acquire` starts another one with the
same data.
"""

from sagajobs.runtime.embedded.client import acquire, seen

__all__ = ["acquire", "seen"]
