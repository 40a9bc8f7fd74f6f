"""An extender as a user would write one, in Python: what it does is told by labels and names, so that a test can see it.

    filter      keeps nodes whose label "tier" is the pod's; says "no room" of others that fail=reason, and nothing of the rest
    prioritize  10 for the node that the pod's annotation "wants" names, 0 for others
    preempt     spares nodes whose name begins with "spare"
    bind        notes who was bound where
    slow, broken, lying: answers that no extender should give

It prints its port on a line of its own and lives until its standard input is closed.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

calls = []


def names(args):
    if args["NodeNames"] is not None:
        return args["NodeNames"]
    return [node["metadata"]["name"] for node in args["Nodes"]["items"]]


def tier_of(args, name):
    """By the node's own label, or if only names are sent, by what comes before the dash."""
    for node in (args["Nodes"] or {"items": []})["items"]:
        if node["metadata"]["name"] == name:
            return node["metadata"].get("labels", {}).get("tier")
    return name.split("-")[0]


def filter_nodes(args):
    tier = args["Pod"]["metadata"].get("labels", {}).get("tier")
    kept = [name for name in names(args) if tier_of(args, name) == tier]
    failed = {name: "another tier" for name in names(args) if name not in kept}
    if args["NodeNames"] is not None:
        return {"nodenames": kept, "failedNodes": failed}
    nodes = [node for node in args["Nodes"]["items"] if node["metadata"]["name"] in kept]
    return {"nodes": {"items": nodes}, "failedAndUnresolvableNodes": failed}


def prioritize(args):
    wanted = args["Pod"]["metadata"].get("annotations", {}).get("wants")
    return [{"host": name, "score": 10 if name == wanted else 0} for name in names(args)]


def preempt(args):
    victims = args.get("NodeNameToMetaVictims") or {
        node: {"Pods": [{"UID": pod["metadata"]["uid"]} for pod in found["Pods"]]}
        for node, found in args["NodeNameToVictims"].items()
    }
    return {"nodeNameToMetaVictims": {node: found for node, found in victims.items() if not node.startswith("spare")}}


def slow(args):
    time.sleep(3)
    return filter_nodes(args)


VERBS = {
    "filter": filter_nodes,
    "prioritize": prioritize,
    "preempt": preempt,
    "bind": lambda args: {},
    "refuse": lambda args: {"error": "the moon is full"},
    "slow": slow,
    "broken": lambda args: None,
    "lying": lambda args: {"nodenames": ["made-up"]},
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, json.dumps(calls).encode())

    def do_POST(self):
        args = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        verb = self.path.rsplit("/", 1)[-1]
        calls.append({"verb": verb, "args": args})
        if verb == "broken":
            self.answer(500, b"oh no")
        else:
            self.answer(200, json.dumps(VERBS[verb](args)).encode())


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
