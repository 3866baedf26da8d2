//! What every Rust server here does before its loop, as `c/start.h` does for the C ones. None of it is measured.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// Room for one read, as in the C servers.
pub const BUFFER: usize = 64 * 1024;

/// Events asked for in one wait, as in the C servers.
pub const BATCH: usize = 512;

/// Listens on the address in the first argument and prints the one bound; SIGTERM ends the process with 0 from now on. With
/// `--version` in its place, prints that of the crate `library`, and ends.
pub fn listener(library: &str) -> TcpListener {
    let first = std::env::args().nth(1).unwrap_or_default();
    if first == "--version" {
        println!("{library} {}", locked(library));
        std::process::exit(0)
    }
    let address: SocketAddr = first.parse().unwrap_or_else(|_| {
        eprintln!("the first argument is the address to listen on, 127.0.0.1:PORT, or --version");
        std::process::exit(2)
    });

    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    setrlimit(Resource::Nofile, raised).expect("the soft limit may go up to the hard one");
    let always = Arc::new(AtomicBool::new(true));
    signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGTERM, 0, always)
        .expect("SIGTERM can be handled");

    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("socket");
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    // Linux hands this down to every accepted socket, which saves a call per connection.
    socket.set_tcp_nodelay(true).expect("TCP_NODELAY");
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    socket.bind(&address.into()).unwrap_or_else(|error| panic!("cannot bind {address}: {error}"));
    socket.listen(4096).expect("listen");

    let listener = TcpListener::from(socket);
    println!("{}", listener.local_addr().expect("a bound socket has an address"));
    std::io::stdout().flush().expect("whoever started us reads the address");
    listener
}

/// The version of a crate that was compiled in.
fn locked(library: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let entry = format!("name = \"{library}\"\nversion = \"");
    let (_, rest) = lock.split_once(&entry).expect("what is compiled in is in the lock file");
    rest.split('"').next().expect("split gives at least one piece")
}
