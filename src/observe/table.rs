//! /proc/net/tcp and tcp6: the same sockets as text, without limits, figures or memory.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::socket::{Socket, State};

/// After a heading, a line each with number, both addresses, the state, both queues, a timer, retransmissions, user,
/// timeout and inode. A line of another form is passed over.
pub(super) fn sockets(table: &str) -> impl Iterator<Item = Socket> {
    table.lines().skip(1).filter_map(socket)
}

fn socket(line: &str) -> Option<Socket> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, peer) = (address(fields.next()?)?, address(fields.next()?)?);
    let state = State::from_number(u8::from_str_radix(fields.next()?, 16).ok()?)?;
    let (send, receive) = fields.next()?.split_once(':')?;
    let (_, ticks) = fields.next()?.split_once(':')?;
    let retransmissions = u8::from_str_radix(fields.next()?, 16).unwrap_or(u8::MAX);
    let user = fields.next()?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(Socket {
        state,
        local,
        peer,
        receive_queue: u32::from_str_radix(receive, 16).ok()?,
        send_queue: u32::from_str_radix(send, 16).ok()?,
        retransmissions,
        timer_ms: u32::from_str_radix(ticks, 16).ok()?.saturating_mul(TICK_MS),
        user,
        inode,
        figures: None,
        memory: None,
    })
}

/// USER_HZ, which Linux promises to programs whatever its own tick is.
const TICK_MS: u32 = 10;

/// In hexadecimal, word by word as it lies in memory, read as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(host.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match host.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_tells_addresses_state_and_queues() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1B58 00000000:0000 0A 00000000:00000002 00:00000000 00000000  1000        0 7 1 0 100 0 0 10 0
   1: 00000000000000000000000001000000:1B58 0000000000000000FFFF00000100007F:9C40 01 00000010:00000000 01:00000014 00000003     0        0 0
 a line of another form
";
        let sockets = sockets(table).collect::<Vec<_>>();
        assert_eq!(sockets.len(), 2, "{sockets:?}");
        assert_eq!(sockets[0].local, "127.0.0.1:7000".parse().expect("an address"));
        assert_eq!((sockets[0].state, sockets[0].user, sockets[0].inode), (State::Listen, 1_000, 7));
        assert_eq!(sockets[0].accept_queue(), Some((2, None)), "the limit is not in the table");
        assert_eq!(sockets[1].local, "[::1]:7000".parse().expect("an address"));
        assert_eq!(sockets[1].peer, "[::ffff:127.0.0.1]:40000".parse().expect("an address"));
        assert_eq!((sockets[1].send_queue, sockets[1].retransmissions, sockets[1].timer_ms), (16, 3, 200));
    }
}
