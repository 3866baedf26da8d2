//! How several threads share one port, as a value: three ways, and one of them in two forms.

use std::fmt;
use std::io;
use std::str::FromStr;

/// How the threads of a [`Group`](super::Group) come by their connections.
///
/// | way | who chooses the thread | what it costs |
/// |---|---|---|
/// | `reuseport` | the kernel, by a hash of addresses and ports | nothing; a few connections may all fall to one thread |
/// | `shared` | whoever is first | each connection wakes every thread that waits, and all but one in vain: the herd |
/// | `exclusive` | the kernel, among the threads that wait | the busy get fewer, and one that is idle may get most |
/// | `handout` | one thread that accepts, in turn | a wake for each connection, or for a few of them, and that thread |
///
/// Datagrams are shared like connections, but for `handout`: there each socket is dealt to one of the threads that
/// serve.
///
/// ```
/// use pollmark::server::Sharing;
/// assert_eq!("handout".parse::<Sharing>()?, Sharing::Handout);
/// assert_eq!(Sharing::default().to_string(), "reuseport");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "report", derive(serde::Deserialize, serde::Serialize))]
pub enum Sharing {
    /// A listener for each thread, all on one port: [`Config::reuse_port`](super::Config::reuse_port). Only where the
    /// kernel shares the connections out among them.
    #[default]
    ReusePort,
    /// One listener, which all threads watch.
    Shared,
    /// The same, but each watches it [exclusively](pollmark_backends::Poller::add_exclusive): a connection wakes one of
    /// them. Only with mechanisms that can.
    Exclusive,
    /// One thread more, which accepts, and hands the connections to the others in turn.
    Handout,
}

impl Sharing {
    /// Every way, in the order of the documentation.
    pub const ALL: [Sharing; 4] = [Sharing::ReusePort, Sharing::Shared, Sharing::Exclusive, Sharing::Handout];
}

impl fmt::Display for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Sharing::ReusePort => "reuseport",
            Sharing::Shared => "shared",
            Sharing::Exclusive => "exclusive",
            Sharing::Handout => "handout",
        })
    }
}

impl FromStr for Sharing {
    type Err = io::Error;

    /// # Errors
    /// `InvalidInput`, with the names there are.
    fn from_str(text: &str) -> io::Result<Sharing> {
        Sharing::ALL.into_iter().find(|way| way.to_string() == text).ok_or_else(|| {
            let names = Sharing::ALL.map(|way| way.to_string()).join(", ");
            let why = format!("{text:?} is no way of sharing a port; there are {names}");
            io::Error::new(io::ErrorKind::InvalidInput, why)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_read_as_it_is_written_and_another_is_answered_with_all() {
        for way in Sharing::ALL {
            assert_eq!(way.to_string().parse::<Sharing>().expect("a name"), way);
        }
        let error = "fairly".parse::<Sharing>().expect_err("no such way");
        assert!(error.to_string().contains("reuseport, shared, exclusive, handout"), "{error}");
    }
}
