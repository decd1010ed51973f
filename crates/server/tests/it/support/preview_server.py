"""What the tests' previews lead to: a web server that tells what it was asked, and misbehaves on request."""
import base64, hashlib, http.server, json, socketserver, struct, sys, threading

RELEASED = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            whole, count = hashlib.sha256(), 0
            while True:
                size = int(self.rfile.readline().strip(), 16)
                piece = self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    return count, whole.hexdigest()
                whole.update(piece)
                count += size
        left, whole, count = int(self.headers.get("content-length", 0)), hashlib.sha256(), 0
        while left:
            piece = self.rfile.read(min(left, 65536))
            whole.update(piece)
            count, left = count + len(piece), left - len(piece)
        return count, whole.hexdigest()

    def tell(self, value, headers=()):
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        for name, content in headers:
            self.send_header(name, content)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def asked(self):
        count, digest = self.body()
        return {"line": self.requestline, "headers": self.headers.items(), "bytes": count, "sha256": digest}

    def chunk(self, piece):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.flush()

    def answer(self):
        path = self.path.split("?")[0]
        if path == "/big":
            size = int(self.path.split("?")[1])
            self.send_response(200)
            self.send_header("content-length", str(size))
            self.end_headers()
            while size:
                piece = b"\0" * min(size, 65536)
                self.wfile.write(piece)
                size -= len(piece)
        elif path in ("/events", "/endless"):
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self.chunk(b"data: first\n\n")
            RELEASED.wait() if path == "/events" else threading.Event().wait()
            self.chunk(b"data: second\n\n")
            self.chunk(b"")
        elif path == "/release":
            RELEASED.set()
            self.tell({})
        elif path == "/cookies":
            cookies = ["mine=1", "rexec=stolen", "__Host-rexec=stolen; Secure; Path=/", "=rexec=stolen", "up=1; Domain=localhost"]
            self.tell({}, [("set-cookie", cookie) for cookie in cookies] + [("x-accel-redirect", "/etc/passwd")])
        elif path == "/two-lengths":
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 30\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nevil")
            self.close_connection = True
        elif path == "/no-http":
            self.wfile.write(b"220 hello\r\n")
            self.close_connection = True
        elif path == "/socket":
            self.socket()
        else:
            self.tell(self.asked())

    def socket(self):
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "Upgrade")
        self.send_header("sec-websocket-accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        while True:
            head = self.rfile.read(2)
            if len(head) < 2:
                break
            opcode, size = head[0] & 15, head[1] & 127
            if size == 126:
                size = struct.unpack(">H", self.rfile.read(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self.rfile.read(8))[0]
            mask, data = self.rfile.read(4), self.rfile.read(size)
            data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
            length = bytes([len(data)]) if len(data) < 126 else b"\x7e" + struct.pack(">H", len(data))
            self.wfile.write(bytes([128 | opcode]) + length + data)
            if opcode == 8:
                break
        self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
