"""A peer: HealthChain's CDS Hooks service that looks at nothing and returns one fixed card.

python peer.py PORT, in an environment of its own (``benchmarks/peer.lock``).
"""

import socket
import sys

import uvicorn
from healthchain.gateway import CDSHooksService, HealthChainAPI
from healthchain.models.requests.cdsrequest import CDSRequest
from healthchain.models.responses.cdsresponse import Card, CDSResponse

service = CDSHooksService()


@service.hook("patient-view", id="empty")
def answer(request: CDSRequest) -> CDSResponse:
    card = Card(summary="One fixed card", indicator="info", source={"label": "peer"})
    return CDSResponse(cards=[card])


if __name__ == "__main__":
    app = HealthChainAPI()
    app.register_service(service)
    # A listening socket of its own, so that several processes can share the port. It names its
    # protocol: else asyncio leaves Nagle's algorithm on, and each answer waits for 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind(("127.0.0.1", int(sys.argv[1])))
    config = uvicorn.Config(app, log_level="error", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])
