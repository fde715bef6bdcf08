"""WebSockets: many requests on one connection.

stream.py       Hypercorn's side of a socket, with limits
handshake.py    keys by subprotocol, refusals as plain HTTP
socket.py       the application's side of a socket: messages in, turns at writing out
requests.py     the requests that run on one socket
protocol.py     what a protocol has to say;  openai.py, paddler.py: the two there are
routes.py       the endpoints, and how many sockets are open
"""

from pyllama.server.websocket.routes import routes

__all__ = ["routes"]
