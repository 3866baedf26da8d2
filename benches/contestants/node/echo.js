// An echo server on Node's net module, as its documentation has it: a socket piped into itself.
//
// One thread, which is Node's way. The pipe stops reading while the peer does not read, and ends when the peer has ended.
// TCP_NODELAY has to be asked for. V8 compiles what is hot, so it has to be kept busy before it is measured.
"use strict";

const net = require("net");

const [host, port] = process.argv[2].split(":");

const server = net.createServer({ noDelay: true }, (socket) => {
  socket.on("error", () => socket.destroy()); // a peer that is gone is the end of its connection, not ours
  socket.pipe(socket);
});
server.listen({ host, port: Number(port), backlog: 4096 }, () => {
  const bound = server.address();
  console.log(`${bound.address}:${bound.port}`);
});
process.on("SIGTERM", () => process.exit(0));
