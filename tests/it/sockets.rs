//! What the kernel lists of a port's sockets, in /proc/net/tcp.

/// A socket of IPv4, as the kernel writes addresses and states: in hexadecimal, the address back to front.
pub(crate) struct Listed {
    pub(crate) local: String,
    pub(crate) peer: String,
    pub(crate) state: String,
}

pub(crate) const ESTABLISHED: &str = "01";
pub(crate) const TIME_WAIT: &str = "06";

/// Those whose own end or whose peer is at `port` of 127.0.0.1.
pub(crate) fn at(port: u16) -> Vec<Listed> {
    let here = address(port);
    let table = std::fs::read_to_string("/proc/net/tcp").expect("readable");
    let listed = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1).map(str::to_owned);
        Some(Listed { local: fields.next()?, peer: fields.next()?, state: fields.next()? })
    });
    listed.filter(|one| one.local == here || one.peer == here).collect()
}

/// The peers of the established connections at `port` of 127.0.0.1.
pub(crate) fn established(port: u16) -> Vec<String> {
    let here = address(port);
    let open = at(port).into_iter().filter(|one| one.local == here && one.state == ESTABLISHED);
    open.map(|one| one.peer).collect()
}

fn address(port: u16) -> String {
    format!("0100007F:{port:04X}")
}
