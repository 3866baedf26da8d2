//! The header of the PROXY protocol, version 1 and 2: a line of text, or a block of bytes that no text begins with.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::protocol::text::integer;

/// The longest header that is accepted. Version 1 has 107 bytes at most; version 2 has 232, and vectors, which few use
/// for more than a name or two.
pub const MOST: usize = 4_096;

/// The longest line of version 1, with its end.
const MOST_LINE: usize = 107;
/// What a line of version 1 begins with.
const WORD: &[u8] = b"PROXY ";
/// What a block of version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// A block without addresses and vectors.
const BLOCK: usize = 16;
/// The type of the vector that has a sum of the whole header.
const CRC32C: u8 = 0x03;

/// A header, whole and valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Header {
    /// How many bytes it has; what follows is the connection's.
    pub length: usize,
    /// Whose connection it is. `None` if it is that of the sender itself, or if the header does not say by an address
    /// of TCP: then the peer is who it seems to be.
    pub source: Option<SocketAddr>,
}

/// Why something is no header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Malformed {}

/// Reads the header that `input` begins with; `None` if there has to be more of it. However much of the input is there,
/// what it is found to be does not change with more.
///
/// The vectors of version 2 are skipped, but for a checksum, which is verified. Of a block that is `LOCAL`, or that has
/// no address family, nothing is looked at: its layout is not defined.
///
/// ```
/// use pollmark::protocol::proxy::read;
///
/// let header = read(b"PROXY TCP6 2001:db8::1 ::1 5000 80\r\nGET / HTTP/1.1\r\n")?.expect("it is whole");
/// assert_eq!((header.length, header.source), (36, "[2001:db8::1]:5000".parse().ok()));
/// assert_eq!(read(b"PROXY TCP6 2001:db8::1 ")?, None);
/// assert!(read(b"GET / HTTP/1.1\r\n").is_err());
/// # Ok::<(), pollmark::protocol::proxy::Malformed>(())
/// ```
///
/// # Errors
/// [`Malformed`], as soon as it cannot be the beginning of a header.
pub fn read(input: &[u8]) -> Result<Option<Header>, Malformed> {
    match input.first() {
        None => Ok(None),
        Some(b'P') => read_line(input),
        Some(_) => read_block(input),
    }
}

/// Version 1.
fn read_line(input: &[u8]) -> Result<Option<Header>, Malformed> {
    begins_with(WORD, input)?;
    let line = &input[..input.len().min(MOST_LINE)];
    let Some(end) = line.windows(2).position(|two| two == b"\r\n") else {
        return if line.len() < MOST_LINE { Ok(None) } else { Err(Malformed("a line of more than 107 bytes")) };
    };
    let mut fields = line[WORD.len()..end].split(|byte| *byte == b' ');
    let source = match fields.next() {
        Some(b"UNKNOWN") => Some(None),
        Some(b"TCP4") => read_addresses::<Ipv4Addr>(fields).map(Some),
        Some(b"TCP6") => read_addresses::<Ipv6Addr>(fields).map(Some),
        _ => None,
    };
    let source = source.ok_or(Malformed("a line that does not name a family, two addresses of it, and two ports"))?;
    Ok(Some(Header { length: end + 2, source }))
}

/// Source, destination, and their ports. The source is wanted, and all of them have to be right.
fn read_addresses<'a, A>(mut fields: impl Iterator<Item = &'a [u8]>) -> Option<SocketAddr>
where
    A: FromStr + Into<IpAddr>,
{
    let mut address = || std::str::from_utf8(fields.next()?).ok()?.parse::<A>().ok();
    let (source, _destination) = (address()?, address()?);
    let mut port = || u16::try_from(integer(fields.next()?)?).ok();
    let (source_port, _destination_port) = (port()?, port()?);
    let is_all = fields.next().is_none();
    is_all.then(|| SocketAddr::new(source.into(), source_port))
}

/// Version 2.
fn read_block(input: &[u8]) -> Result<Option<Header>, Malformed> {
    begins_with(SIGNATURE, input)?;
    let is_local = match input.get(SIGNATURE.len()) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(Malformed("neither LOCAL nor PROXY of version 2")),
    };
    // How many bytes the addresses have; those of `None` are not to be read.
    let addresses = match input.get(SIGNATURE.len() + 1) {
        None => return Ok(None),
        Some(_) if is_local => None,
        Some(0x11 | 0x12) => Some(12),
        Some(0x21 | 0x22) => Some(36),
        Some(0x31 | 0x32) => Some(216),
        // No family, or no transport.
        Some(0x00..=0x02 | 0x10 | 0x20 | 0x30) => None,
        Some(_) => return Err(Malformed("an unknown family or transport")),
    };
    let Some(&[high, low]) = input.get(BLOCK - 2..BLOCK) else { return Ok(None) };
    let length = BLOCK + usize::from(u16::from_be_bytes([high, low]));
    if length > MOST {
        return Err(Malformed("a header of more than 4096 bytes"));
    }
    let Some(header) = input.get(..length) else { return Ok(None) };
    let mut source = None;
    if let Some(bytes) = addresses {
        let (addresses, vectors) =
            header[BLOCK..].split_at_checked(bytes).ok_or(Malformed("too short for its addresses"))?;
        verify(header, vectors)?;
        source = match (header[SIGNATURE.len() + 1], addresses) {
            (0x11, &[a, b, c, d, _, _, _, _, high, low, _, _]) => {
                Some(SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low]))))
            }
            (0x21, _) => addresses
                .first_chunk::<16>()
                .map(|address| SocketAddr::from((*address, u16::from_be_bytes([addresses[32], addresses[33]])))),
            // A path, or no stream: nothing a peer of TCP can be known by.
            _ => None,
        };
    }
    Ok(Some(Header { length, source }))
}

/// That the `vectors` at the end of a header are whole, and that the sum among them, if there is one, is right.
fn verify(header: &[u8], mut vectors: &[u8]) -> Result<(), Malformed> {
    const CUT: Malformed = Malformed("a vector that is cut short");
    let mut sum = None;
    while !vectors.is_empty() {
        let &[kind, high, low, ref rest @ ..] = vectors else { return Err(CUT) };
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes([high, low]).into()).ok_or(CUT)?;
        if kind == CRC32C {
            let at = header.len() - rest.len() - value.len();
            let told = <[u8; 4]>::try_from(value).map_err(|_| Malformed("a checksum of more or less than 32 bits"))?;
            if sum.replace((at, u32::from_be_bytes(told))).is_some() {
                return Err(Malformed("two checksums"));
            }
        }
        vectors = rest;
    }
    let Some((at, told)) = sum else { return Ok(()) };
    // It was made when the place where it stands was zero.
    let made_of = header[..at].iter().chain(&[0; 4]).chain(&header[at + 4..]);
    if crc32c(made_of) == told { Ok(()) } else { Err(Malformed("a wrong checksum")) }
}

/// CRC-32C (RFC 4960, appendix B), bit by bit: a header is short, and there is one for each connection.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let divide = |sum: u32, _| (sum >> 1) ^ if sum & 1 == 1 { POLYNOMIAL } else { 0 };
    !bytes.fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), divide))
}

/// That `input`, as far as it goes, is what a header begins with.
fn begins_with(beginning: &[u8], input: &[u8]) -> Result<(), Malformed> {
    let common = beginning.len().min(input.len());
    if beginning[..common] == input[..common] { Ok(()) } else { Err(Malformed("neither version 1 nor version 2")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `input` is found to be, whichever part of it comes first.
    fn read(input: &[u8]) -> Result<Option<Header>, Malformed> {
        let whole = super::read(input);
        for cut in 0..input.len() {
            match super::read(&input[..cut]) {
                Ok(None) => {}
                Ok(found) => assert_eq!(whole, Ok(found), "after {cut} of {}", input.escape_ascii()),
                Err(_) => assert!(whole.is_err(), "after {cut} of {}", input.escape_ascii()),
            }
        }
        whole
    }

    fn source(input: &[u8]) -> Option<String> {
        let header = read(input).expect("a header").expect("all of it");
        assert_eq!(header.length, input.len());
        header.source.map(|source| source.to_string())
    }

    fn block(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short");
        [SIGNATURE, &[command, family], &length.to_be_bytes(), body].concat()
    }

    const V4: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0x13, 0x88, 0, 80];

    #[test]
    fn a_line_tells_whose_connection_it_is() {
        let told = |line: &str| source(line.as_bytes());
        assert_eq!(told("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n").as_deref(), Some("255.255.255.255:65535"));
        assert_eq!(told("PROXY TCP6 2001:DB8::1 ::1 1 2\r\n").as_deref(), Some("[2001:db8::1]:1"));
        let longest = format!("PROXY TCP6 {0} {0} 65535 65535\r\n", ["ffff"; 8].join(":"));
        assert_eq!((longest.len(), told(&longest).is_some()), (104, true));
        assert_eq!(told("PROXY UNKNOWN\r\n"), None);
        let longest = format!("PROXY UNKNOWN {}\r\n", "?".repeat(91));
        assert_eq!((longest.len(), told(&longest)), (107, None));
    }

    #[test]
    fn a_line_that_is_not_exactly_right_is_none() {
        for line in [
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
            "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 ::1 1 2\r\n",
            "PROXY TCP6 ::1%1 ::1 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n\r\n",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
            "PROXY\r\n",
            "proxy UNKNOWN\r\n",
            " PROXY UNKNOWN\r\n",
        ] {
            assert!(read(line.as_bytes()).is_err(), "{line:?}");
        }
        let too_long = format!("PROXY UNKNOWN {}\r\n", "?".repeat(92));
        assert!(read(too_long.as_bytes()).is_err());
        assert_eq!(read(b"PROXY UNKNOWN \r \n"), Ok(None), "neither of them ends a line alone");
    }

    #[test]
    fn a_block_tells_whose_connection_it_is() {
        assert_eq!(source(&block(0x21, 0x11, V4)).as_deref(), Some("192.0.2.7:5000"));
        let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[9; 16], &[0x13, 0x88, 0, 80]].concat();
        assert_eq!(source(&block(0x21, 0x21, &v6)).as_deref(), Some("[2001:db8::1]:5000"));
        // By a path, or by datagrams.
        assert_eq!(source(&block(0x21, 0x31, &[b'/'; 216])), None);
        assert_eq!(source(&block(0x21, 0x12, V4)), None);
        // Nobody else's, or nobody knows whose.
        for (command, family) in [(0x20, 0x11), (0x20, 0xff), (0x21, 0x00), (0x21, 0x01), (0x21, 0x20)] {
            for body in [V4, b"", b"whatever"] {
                assert_eq!(source(&block(command, family, body)), None);
            }
        }
        let noop = [V4, b"\x04\0\0", b"\x04\0\x02xx", b"\xe0\0\x01x"].concat();
        assert_eq!(source(&block(0x21, 0x11, &noop)).as_deref(), Some("192.0.2.7:5000"));
    }

    #[test]
    fn a_block_that_is_not_exactly_right_is_none() {
        let vectors = |more: &[u8]| block(0x21, 0x11, &[V4, more].concat());
        for block in [
            block(0x11, 0x11, V4),
            block(0x22, 0x11, V4),
            block(0x21, 0x13, V4),
            block(0x21, 0x41, V4),
            block(0x21, 0x11, &V4[1..]),
            block(0x21, 0x21, V4),
            block(0x21, 0x31, V4),
            vectors(b"\x04"),
            vectors(b"\x04\0"),
            vectors(b"\x04\0\x02x"),
            vectors(b"\x03\0\x03xxx"),
            block(0x20, 0, &[0; MOST - BLOCK + 1]),
            b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
        ] {
            assert!(read(&block).is_err(), "{}", block.escape_ascii());
        }
        assert_eq!(source(&block(0x20, 0, &[0; MOST - BLOCK])), None);
    }

    /// What HAProxy 2.6 wrote to a Unix socket of ours, told `send-proxy`, `send-proxy-v2`, and the latter with
    /// `proxy-v2-options unique-id,crc32c`; before each `hello` of its client.
    #[test]
    fn what_haproxy_writes_is_read() {
        let mut one = [0; 16];
        one[15] = 1; // ::1
        let ports = |from: [u8; 2]| [&one[..], &one, &from, b"\x59\x13"].concat();
        for (said, source) in [
            (b"PROXY TCP4 127.0.0.1 127.0.0.1 46336 22800\r\n".to_vec(), "127.0.0.1:46336"),
            (b"PROXY TCP6 ::1 ::1 46720 22801\r\n".to_vec(), "[::1]:46720"),
            (b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\xbc\xd0Y\x12".to_vec(), "127.0.0.1:48336"),
            ([&b"\r\n\r\n\0\r\nQUIT\n!!\0$"[..], &ports(*b"\xcd\xf2")].concat(), "[::1]:52722"),
            (
                b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x1d\x7f\0\0\x01\x7f\0\0\x01\xe2(Y\x14\x03\0\x04F{D\x94\x05\0\x0727475-0"
                    .to_vec(),
                "127.0.0.1:57896",
            ),
        ] {
            let whole = [&said[..], b"hello"].concat();
            let header = read(&whole).expect("a header").expect("a whole one");
            assert_eq!((header.length, header.source), (said.len(), source.parse().ok()), "{}", said.escape_ascii());
            for bytes in 0..said.len() {
                assert_eq!(read(&whole[..bytes]), Ok(None), "{bytes} bytes of {}", said.escape_ascii());
            }
        }
    }

    #[test]
    fn a_checksum_is_verified_wherever_it_stands() {
        assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283);
        for (before, after) in [(&b""[..], &b""[..]), (b"\x04\0\x01x", b"\x04\0\0")] {
            let of = |sum: u32| block(0x21, 0x11, &[V4, before, b"\x03\0\x04", &sum.to_be_bytes(), after].concat());
            let right = crc32c(of(0).iter());
            assert_eq!(source(&of(right)).as_deref(), Some("192.0.2.7:5000"));
            for bit in 0..32 {
                assert_eq!(read(&of(right ^ 1 << bit)), Err(Malformed("a wrong checksum")));
            }
        }
        let twice = [V4, b"\x03\0\x04\0\0\0\0", b"\x03\0\x04\0\0\0\0"].concat();
        assert_eq!(read(&block(0x21, 0x11, &twice)), Err(Malformed("two checksums")));
    }
}
