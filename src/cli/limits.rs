//! The limits of a server, as options of the command line.

use std::time::Duration;

use crate::server::{Excess, Limits};

/// How many connections, and how long each may take.
#[derive(clap::Args)]
#[command(next_help_heading = "Limits")]
#[group(skip)]
pub(super) struct Arguments {
    /// So many connections at a time, in each process.
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
    /// What to do about connections beyond: close (them at once), pause (let them wait in the listen queue) or reply
    /// (close them after what the protocol has to say).
    #[arg(long, value_name = "WAY", default_value_t, requires = "max_connections")]
    when_full: Excess,
    /// Close a connection by which nothing was sent, either way, for so long: 60s, 500ms, 5m or 2h.
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    idle_timeout: Option<Duration>,
    /// Close a connection whose first message is not complete so long after it was accepted.
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    header_timeout: Option<Duration>,
    /// Close a connection with a message that is not complete so long after it began.
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    request_timeout: Option<Duration>,
    /// Reset a connection whose peer takes nothing of what it is owed for so long.
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    write_timeout: Option<Duration>,
    /// Close any connection after so long.
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    total_timeout: Option<Duration>,
    /// At the first SIGINT or SIGTERM, how long to wait for what is under way; a second one waits no longer.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    drain: Duration,
    /// Bytes a message may have that is not complete.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().message)]
    max_message: usize,
}

impl Arguments {
    pub(super) fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        (limits.connections, limits.excess) = (self.max_connections, self.when_full);
        (limits.idle, limits.header, limits.request) = (self.idle_timeout, self.header_timeout, self.request_timeout);
        (limits.write, limits.total, limits.message) = (self.write_timeout, self.total_timeout, self.max_message);
        limits.drain = self.drain;
        limits
    }
}

/// A time in words: a number and its unit.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let unit = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let ms_each = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(ms_each)).filter(|_| ms_each > 0);
    ms.map(Duration::from_millis).ok_or_else(|| "a number with its unit is needed: 500ms, 60s, 5m or 2h".to_owned())
}

fn deadline(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err("0 would end every connection at once; leave it out to have no such deadline".to_owned()),
        deadline => Ok(deadline),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_a_deadline_is_not_at_once() {
        for (text, ms) in [("1ms", 1), ("60s", 60_000), ("5m", 300_000), ("2h", 7_200_000), ("0s", 0)] {
            assert_eq!(time(text), Ok(Duration::from_millis(ms)));
        }
        for wrong in ["", "5", "s", "-1s", "1.5s", "1 s", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert!(time(wrong).is_err_and(|why| why.contains("500ms")), "{wrong:?} is no time");
        }
        assert!(deadline("0ms").is_err_and(|why| why.contains("leave it out")));
    }
}
