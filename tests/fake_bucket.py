"""A bucket in memory behind the part of Google Cloud Storage's JSON API that checkpoints use.

`serve()` gives the URL for STORAGE_EMULATOR_HOST (gcsfs) and TENSORSTORE_GCS_HTTP_URL.
"""

import contextlib
import email.parser
import email.policy
import http.server
import itertools
import json
import threading
import urllib.parse
from typing import Any


class Bucket:
    """objects: name -> (bytes, generation). denied: methods that are answered with 403."""

    def __init__(self):
        self.objects, self.denied = {}, set()
        self.lock, self.generations = threading.RLock(), itertools.count(1)

    def put(self, name, data):
        with self.lock:
            self.objects[name] = data, next(self.generations)


def _handler(bucket):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format, *args):
            pass

        def answer(self, status: int, body: Any = b"", headers: Any = ()) -> None:
            if not isinstance(body, bytes):
                body = json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def meta(self, name):
            data, generation = bucket.objects[name]
            return {
                "kind": "storage#object", "name": name, "bucket": "bucket", "size": str(len(data)),
                "generation": str(generation), "metageneration": "1", "etag": str(generation),
                "updated": "2026-01-01T00:00:00.000Z", "timeCreated": "2026-01-01T00:00:00.000Z",
                "contentType": "application/octet-stream",
            }  # fmt: skip

        def handle_any(self):
            url = urllib.parse.urlsplit(self.path)
            asked = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = self.chunks()
            if self.command in bucket.denied:
                return self.answer(403, {"error": {"code": 403, "message": "denied by the test"}})
            parts = url.path.split("/o/", 1)
            name = urllib.parse.unquote(parts[1]) if len(parts) == 2 else ""
            with bucket.lock:
                return self.route(url, asked, body, name)

        def chunks(self):
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data

        def is_refused(self, asked, name):
            now = bucket.objects.get(name, (b"", 0))[1]
            if "ifGenerationMatch" in asked and int(asked["ifGenerationMatch"]) != now:
                self.answer(412, {"error": {"code": 412, "message": "generation"}})
                return True
            if "ifGenerationNotMatch" in asked and int(asked["ifGenerationNotMatch"]) == now:
                self.answer(304)
                return True
            return False

        def route(self, url, asked, body, name):
            if url.path.startswith("/upload/"):
                return self.upload(asked, body)
            for word in ("/rewriteTo/", "/copyTo/", "/moveTo/"):
                if word in name:
                    return self.copy(word, *name.split(word, 1))
            if not name:
                if url.path.rstrip("/").endswith("/o"):
                    return self.list(asked)
                return self.answer(
                    200, {"kind": "storage#bucket", "name": "bucket", "id": "bucket"}
                )
            if name not in bucket.objects:
                return self.answer(404, {"error": {"code": 404, "message": f"no {name}"}})
            if self.is_refused(asked, name):
                return None
            if self.command == "DELETE":
                del bucket.objects[name]
                return self.answer(204)
            if asked.get("alt") != "media":
                return self.answer(200, self.meta(name))
            data, generation = bucket.objects[name]
            headers = [("x-goog-generation", str(generation)), ("ETag", str(generation))]
            span = self.headers.get("Range")
            if not span:
                return self.answer(200, data, headers)
            first, _, last = span.removeprefix("bytes=").partition("-")
            start = int(first) if first else max(0, len(data) - int(last))
            stop = min(int(last) + 1, len(data)) if first and last else len(data)
            headers += [("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")]
            return self.answer(206, data[start:stop], headers)

        def copy(self, word, source, target):
            target = target.split("o/", 1)[1]
            if source not in bucket.objects:
                return self.answer(404, {"error": {"code": 404, "message": f"no {source}"}})
            bucket.put(target, bucket.objects[source][0])
            if word == "/moveTo/":
                del bucket.objects[source]
            found = self.meta(target)
            done = {"done": True, "resource": found} if word == "/rewriteTo/" else found
            return self.answer(200, done)

        def upload(self, asked, body):
            kind, name = asked["uploadType"], asked.get("name", "")
            if kind == "multipart":
                head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
                message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
                about, content = (part.get_content() for part in message.iter_parts())
                name, body = json.loads(about)["name"], content
            elif kind == "resumable" and "upload_id" not in asked:
                name = name or json.loads(body)["name"]
                query = urllib.parse.urlencode({"uploadType": kind, "name": name, "upload_id": "1"})
                host = self.headers["Host"]
                where = f"http://{host}/upload/storage/v1/b/bucket/o?{query}"
                bucket.put(f"{name}#part", b"")
                return self.answer(200, b"", [("Location", where)])
            elif kind == "resumable":
                so_far = bucket.objects[f"{name}#part"][0] + body
                if self.headers["Content-Range"].endswith("/*"):
                    bucket.put(f"{name}#part", so_far)
                    return self.answer(308, b"", [("Range", f"bytes=0-{len(so_far) - 1}")])
                del bucket.objects[f"{name}#part"]
                body = so_far
            if self.is_refused(asked, name):
                return None
            bucket.put(name, body)
            return self.answer(200, self.meta(name))

        def list(self, asked):
            prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
            names, prefixes = [], set()
            for name in sorted(bucket.objects):
                rest = name.removeprefix(prefix)
                if not name.startswith(prefix) or name.endswith("#part"):
                    continue
                if not asked.get("startOffset", "") <= name:
                    continue
                if "endOffset" in asked and name >= asked["endOffset"]:
                    continue
                if delimiter and delimiter in rest:
                    prefixes.add(prefix + rest.split(delimiter)[0] + delimiter)
                else:
                    names.append(name)
            found = {"kind": "storage#objects", "prefixes": sorted(prefixes)}
            return self.answer(200, found | {"items": [self.meta(name) for name in names]})

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any

    return Handler


@contextlib.contextmanager
def serve():
    """(URL, Bucket) of a server that runs in the block."""
    bucket = Bucket()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(bucket))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bucket
    finally:
        server.shutdown()
        thread.join()
